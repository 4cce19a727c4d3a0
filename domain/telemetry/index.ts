export { authenticateDevices, Device, devices, hashKey, IssuedKey, issueDeviceKey, revokeDeviceKey } from './device.ts'
export { type IncomingReadings, type IngestResult, type Rejection, TelemetryIngest } from './ingest.ts'
export { MAX_MESSAGE_BYTES, TelemetryMessage } from './message.ts'
export * from './query.ts'

export { Alert, alertLifecycle, alertList, moveAlert } from './alert.ts'
export { annotations } from './annotation.ts'
export { BUCKETS, type BucketLength } from './buckets.ts'
export { calibrations } from './calibration.ts'
export * from './chart.ts'
export { derivedMetrics } from './derived-metric.ts'
export { countDevices, Device, devices } from './device.ts'
export {
  authenticateDevices,
  DeviceKey,
  deviceKeys,
  hashKey,
  IssuedKey,
  issueDeviceKeys,
  KeysWanted,
  Rotation,
  revokeDeviceKey,
  rotateDeviceKey,
} from './device-key.ts'
export { FILLS, type Fill, FillSchema } from './fill.ts'
export { type IncomingReadings, type IngestOf, type IngestResult, isIngested, TelemetryIngest } from './ingest.ts'
export { largestTriangles } from './lttb.ts'
export {
  type ClaimedSender,
  claimedSender,
  MAX_ABSOLUTE_VALUE,
  MAX_DEVICE,
  MAX_MESSAGE_BYTES,
  type Refused,
  readMessage,
  TelemetryMessage,
} from './message.ts'
export {
  type AlertMessage,
  AlertNotification,
  alertNotificationList,
  notificationChannels,
  notifyOfAlerts,
  tenantsWithChannels,
} from './notification-channel.ts'
export { deviceProfiles, metrics } from './profile.ts'
export { ALL_QUALITIES, QualityFilter, qualitiesOf, USUAL_QUALITIES } from './quality.ts'
export * from './query.ts'
export { Rejected, RejectedQuery, type Rejection, rejectedReadings } from './rejection.ts'
export { Replaced, Replacement, ReplacementWanted, replaceDevice, replacementsOf } from './replacement.ts'
export { rules } from './rule.ts'
export { type SeriesQuestion, seriesOf } from './series.ts'
export { AGGREGATES, Bucket, FURTHER, type Further, SourceSchema } from './summed.ts'
export { sumUpHours } from './sums.ts'
export { tenantsWithTimedRules, watchTime } from './watch.ts'

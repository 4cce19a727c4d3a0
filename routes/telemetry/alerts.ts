// Rules, and the alerts that they raise.
import type { FastifyInstance } from 'fastify'
import { Alert, alertLifecycle, alertList, moveAlert, rules } from '../../domain/telemetry/index.ts'
import { lifecycleRoutes } from '../http/lifecycle-routes.ts'
import { readingRoutes } from '../http/reading-routes.ts'
import { resourceRoutes } from '../http/resource-routes.ts'

const module = 'telemetry.devices'
const plane = 'telemetry'

export default async function alerts(app: FastifyInstance) {
  await app.register(resourceRoutes(rules, { plane }))
  const { get, permission } = alertLifecycle
  await app.register(readingRoutes({ module, permission, plane, list: alertList, schema: Alert.schema, get }))
  await app.register(lifecycleRoutes(alertLifecycle, { module, plane, document: Alert.schema, move: moveAlert }))
}

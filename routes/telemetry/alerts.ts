// Rules, and the alerts that they raise.
import type { FastifyInstance } from 'fastify'
import {
  Alert,
  AlertNotification,
  alertLifecycle,
  alertList,
  alertNotificationList,
  moveAlert,
  notificationChannels,
  rules,
} from '../../domain/telemetry/index.ts'
import { lifecycleRoutes } from '../http/lifecycle-routes.ts'
import { readingRoutes } from '../http/reading-routes.ts'
import { resourceRoutes } from '../http/resource-routes.ts'

const module = 'telemetry.devices'
const plane = 'telemetry'

export default async function alerts(app: FastifyInstance) {
  await app.register(resourceRoutes(rules, { plane }))
  await app.register(resourceRoutes(notificationChannels, { plane }))
  const { get, permission } = alertLifecycle
  await app.register(readingRoutes({ module, permission, plane, list: alertList, schema: Alert.schema, get }))
  await app.register(lifecycleRoutes(alertLifecycle, { module, plane, document: Alert.schema, move: moveAlert }))
  await app.register(
    readingRoutes({
      module,
      permission: 'telemetry.alert_notification',
      plane,
      list: alertNotificationList,
      schema: AlertNotification.schema,
      get: () => Promise.reject(new TypeError('not routed')),
      has: (what) => what === 'list',
    }),
  )
}

// The table of contents: every plugin and every route family, in the order in which a request meets them.
import Fastify, {
  type FastifyInstance,
  type FastifyPluginAsync,
  type FastifyReply,
  type FastifyServerOptions,
  type RouteOptions,
} from 'fastify'
import { customFields } from '../domain/erp/fields/index.ts'
import { locations, lots, reorderRules, stockAlerts } from '../domain/erp/inventory/index.ts'
import { parties, partyAddresses, partyContacts } from '../domain/erp/parties/index.ts'
import { exchangeRates, priceListItems, priceLists } from '../domain/erp/pricing/index.ts'
import {
  clientProducts,
  productCategories,
  productComponents,
  products,
  productVariants,
  supplierProducts,
  taxes,
  uomConversions,
  uoms,
} from '../domain/erp/products/index.ts'
import access from '../plugins/access.ts'
import accessMode from '../plugins/access-mode.ts'
import activity from '../plugins/activity.ts'
import assurance from '../plugins/assurance.ts'
import attemptLimit from '../plugins/attempt-limit.ts'
import context from '../plugins/context.ts'
import correlation, { correlationIdOf } from '../plugins/correlation.ts'
import data from '../plugins/data.ts'
import errors, { answerClientError, toFailure } from '../plugins/errors.ts'
import host from '../plugins/host.ts'
import idempotency from '../plugins/idempotency.ts'
import metrics from '../plugins/metrics.ts'
import openapi from '../plugins/openapi.ts'
import rateLimit from '../plugins/rate-limit.ts'
import routeOptions from '../plugins/route-options.ts'
import security from '../plugins/security.ts'
import type { Services } from '../plugins/services.ts'
import session from '../plugins/session.ts'
import tenant from '../plugins/tenant.ts'
import validation from '../plugins/validation.ts'
import audit from '../routes/audit.ts'
import domains from '../routes/domains.ts'
import customFieldSchemas from '../routes/erp/custom-fields.ts'
import exchange from '../routes/erp/exchange.ts'
import goodsReceipts from '../routes/erp/goods-receipts.ts'
import partyRoutes from '../routes/erp/parties.ts'
import prices from '../routes/erp/prices.ts'
import purchaseOrders from '../routes/erp/purchase-orders.ts'
import stock from '../routes/erp/stock.ts'
import stockLedger from '../routes/erp/stock-ledger.ts'
import store from '../routes/erp/store.ts'
import events from '../routes/events.ts'
import files from '../routes/files.ts'
import health from '../routes/health.ts'
import { resourceRoutes } from '../routes/http/resource-routes.ts'
import internal from '../routes/internal.ts'
import menu from '../routes/menu.ts'
import account from '../routes/people/account.ts'
import apiKeys from '../routes/people/api-keys.ts'
import auth from '../routes/people/auth.ts'
import identityProviders from '../routes/people/identity-providers.ts'
import mfa from '../routes/people/mfa.ts'
import passkeys from '../routes/people/passkeys.ts'
import securityPolicy from '../routes/people/security-policy.ts'
import sso from '../routes/people/sso.ts'
import ssoLinks from '../routes/people/sso-links.ts'
import users from '../routes/people/users.ts'
import registrations from '../routes/registrations.ts'
import explain from '../routes/rights/explain.ts'
import organizations from '../routes/rights/organizations.ts'
import rightsReport from '../routes/rights/report.ts'
import roles from '../routes/rights/roles.ts'
import supportConsents from '../routes/rights/support-consents.ts'
import catalogue from '../routes/superadmin/catalogue.ts'
import impersonation from '../routes/superadmin/impersonation.ts'
import insight from '../routes/superadmin/insight.ts'
import moves from '../routes/superadmin/moves.ts'
import notices from '../routes/superadmin/notices.ts'
import offers from '../routes/superadmin/offers.ts'
import operations from '../routes/superadmin/operations.ts'
import tenants from '../routes/superadmin/tenants.ts'
import alerts from '../routes/telemetry/alerts.ts'
import devices from '../routes/telemetry/devices.ts'
import telemetryIngest from '../routes/telemetry/ingest.ts'
import readings from '../routes/telemetry/readings.ts'
import usage from '../routes/usage.ts'
import type { Log } from './log.ts'

const BODY_LIMIT = 1024 * 1024

/** Hooks and routes that tests add. */
interface Additions {
  onRoute?: (route: RouteOptions) => void
  routes?: FastifyPluginAsync
}

/** Builds the app on its services. It listens to nothing yet and closes none of them. */
export async function buildApp(services: Services, log: Log, { onRoute, routes }: Additions = {}): Promise<FastifyInstance> {
  const app = Fastify({
    loggerInstance: log.root as unknown as NonNullable<FastifyServerOptions['loggerInstance']>,
    childLoggerFactory: (_logger, bindings) => log.ofRequest(String(bindings.reqId)) as never,
    genReqId: (request) => correlationIdOf(request.headers['x-correlation-id']),
    logController: new Fastify.LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_LIMIT,
    requestTimeout: 30_000,
    routerOptions: { maxParamLength: 200 },
    trustProxy: services.settings.trustedProxies,
    clientErrorHandler: answerClientError,
    forceCloseConnections: 'idle',
    http: { requireHostHeader: false }, // plugins/host.ts refuses with the error envelope
    exposeHeadRoutes: false,
    frameworkErrors: (error, request, reply) => {
      const refused = toFailure(error)
      void (reply as FastifyReply).status(refused.status).send(refused.envelope(request.id))
    },
  }) as unknown as FastifyInstance
  app.decorate('services', services)
  app.decorate('logOf', log.ofRequest as never)

  await app.register(routeOptions)
  if (onRoute) app.addHook('onRoute', onRoute)
  await app.register(validation)
  await app.register(correlation)
  await app.register(errors)
  await app.register(host)
  await app.register(metrics)
  await app.register(security)
  await app.register(rateLimit)
  await app.register(tenant)
  await app.register(attemptLimit)
  await app.register(session)
  await app.register(activity)
  await app.register(assurance)
  await app.register(accessMode)
  await app.register(context)
  await app.register(access)
  await app.register(data)
  await app.register(idempotency)
  await app.register(openapi)

  await app.register(health)
  if (routes) await app.register(routes)
  await app.register(
    async (api) => {
      await api.register(auth)
      await api.register(account)
      await api.register(mfa)
      await api.register(passkeys)
      await api.register(sso)
      await api.register(ssoLinks)
      await api.register(identityProviders)
      await api.register(users)
      await api.register(apiKeys)
      await api.register(securityPolicy)
      await api.register(audit)
      await api.register(internal)
      await api.register(organizations)
      await api.register(menu)
      await api.register(usage)
      await api.register(domains)
      await api.register(explain)
      await api.register(roles)
      await api.register(rightsReport)
      await api.register(supportConsents)
      await api.register(resourceRoutes(parties))
      await api.register(partyRoutes)
      await api.register(resourceRoutes(partyAddresses))
      await api.register(resourceRoutes(partyContacts))
      await api.register(resourceRoutes(uoms))
      await api.register(resourceRoutes(uomConversions))
      await api.register(resourceRoutes(productCategories))
      await api.register(resourceRoutes(products))
      await api.register(resourceRoutes(productVariants))
      await api.register(resourceRoutes(productComponents))
      await api.register(resourceRoutes(supplierProducts))
      await api.register(resourceRoutes(clientProducts))
      await api.register(resourceRoutes(taxes))
      await api.register(resourceRoutes(priceLists))
      await api.register(resourceRoutes(priceListItems))
      await api.register(prices)
      await api.register(resourceRoutes(exchangeRates))
      await api.register(resourceRoutes(customFields))
      await api.register(customFieldSchemas)
      await api.register(resourceRoutes(locations))
      await api.register(resourceRoutes(lots, { only: ['list', 'get', 'history'] }))
      await api.register(stock)
      await api.register(stockLedger)
      await api.register(store)
      await api.register(resourceRoutes(reorderRules))
      await api.register(resourceRoutes(stockAlerts, { only: ['list', 'get', 'history'] }))
      await api.register(files)
      await api.register(exchange)
      await api.register(purchaseOrders)
      await api.register(goodsReceipts)
      await api.register(devices)
      await api.register(alerts)
      await api.register(events)
      await api.register(telemetryIngest)
      await api.register(readings)
      await api.register(registrations)
      await api.register(catalogue)
      await api.register(tenants)
      await api.register(offers)
      await api.register(notices)
      await api.register(moves)
      await api.register(operations)
      await api.register(insight)
      await api.register(impersonation)
    },
    { prefix: '/api/v1' },
  )
  return app
}

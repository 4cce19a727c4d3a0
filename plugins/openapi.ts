import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import fp from 'fastify-plugin'
import { exampleOf } from './example.ts'

/** OpenAPI 3.1 from the routes' own schemas at /api/openapi.json, rendered at /docs. */
export default fp(
  async (app) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Tenantry',
          version: '0.1.0',
          license: { name: 'Apache-2.0' },
          description:
            'Multi-tenant ERP and telemetry. The tenant is found by host name. Sign in with POST /api/v1/auth/login?token=body and send the access token as a bearer token, or use the cookies it sets.',
        },
        components: {
          securitySchemes: {
            bearer: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' },
            cookie: { type: 'apiKey', in: 'cookie', name: 'access_token' },
            deviceKey: { type: 'http', scheme: 'bearer', description: 'dk_… of a device' },
          },
        },
      },
      convertConstToEnum: false,
      transform: ({ schema, url, route }) => {
        const { public: open, permission } = route.config?.access ?? {}
        const described = {
          ...schema,
          ...(schema?.body ? { body: { ...schema.body, examples: [exampleOf(schema.body)] } } : {}),
          ...(permission ? { description: `${schema?.description ? `${schema.description} ` : ''}Needs \`${permission}\`.` } : {}),
        }
        return { schema: { ...described, security: open ? [] : [{ bearer: [] }, { cookie: [] }] } as never, url }
      },
    })
    const open = { public: true, tenantless: true } as const
    let document: unknown
    app.get('/api/openapi.json', { ...open, schema: { hide: true } }, async () => {
      document ??= app.swagger()
      return document
    })
    await app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, uiConfig: { url: '/api/openapi.json' } })
  },
  { name: 'openapi' },
)

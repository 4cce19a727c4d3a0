import { createHash } from 'node:crypto'
import { gzipSync } from 'node:zlib'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyReply, FastifyRequest } from 'fastify'
import fp from 'fastify-plugin'
import { exampleOf } from './example.ts'

/** A document of megabytes that is the same for everyone: made once, packed once, and sent only where it is not known yet. */
class CachedDocument {
  readonly #type: string
  readonly #make: () => string
  #made: { plain: Buffer; packed: Buffer; etag: string } | undefined

  constructor(type: string, make: () => string) {
    this.#type = type
    this.#make = make
  }

  send({ headers }: FastifyRequest, reply: FastifyReply): FastifyReply {
    this.#made ??= this.#pack()
    const { plain, packed, etag } = this.#made
    // Beside what CORS varies by.
    const vary = [reply.getHeader('vary'), 'Accept-Encoding'].filter(Boolean).join(', ')
    reply.headers({ etag, 'cache-control': 'public, max-age=60', vary })
    if (headers['if-none-match']?.split(/\s*,\s*/).some((known) => known.replace(/^W\//, '') === etag)) return reply.status(304).send()
    reply.type(this.#type)
    if (!/\bgzip\b(?!\s*;\s*q=0(?:\.0*)?(?:,|$))/.test(headers['accept-encoding'] ?? '')) return reply.send(plain)
    return reply.header('content-encoding', 'gzip').send(packed)
  }

  #pack() {
    const plain = Buffer.from(this.#make())
    return { plain, packed: gzipSync(plain), etag: `"${createHash('sha256').update(plain).digest('base64url')}"` }
  }
}

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
    const json = new CachedDocument('application/json; charset=utf-8', () => JSON.stringify(app.swagger()))
    const yaml = new CachedDocument('application/yaml; charset=utf-8', () => app.swagger({ yaml: true }))
    app.get('/api/openapi.json', { public: true, tenantless: true, config: { document: true }, schema: { hide: true } }, (request, reply) =>
      json.send(request, reply),
    )
    // The library serializes its two documents at each request; this answers before it does.
    const ofLibrary = new Map([
      ['/docs/json', json],
      ['/docs/yaml', yaml],
    ])
    app.addHook('onRoute', (route) => {
      if (ofLibrary.has(route.url)) route.config = { ...route.config, document: true }
    })
    await app.register(swaggerUi, {
      routePrefix: '/docs',
      staticCSP: true,
      uiConfig: { url: '/api/openapi.json' },
      uiHooks: {
        onRequest: (request, reply, next) => {
          const document = ofLibrary.get(request.routeOptions.url ?? '')
          if (document) document.send(request, reply)
          else next()
        },
      },
    })
  },
  { name: 'openapi' },
)

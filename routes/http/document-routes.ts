// The endpoints of a document: its list, itself and its history, how one is made, and every move of its lifecycle.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import type { Static, TSchema } from 'typebox'
import type { Detail, Fragment, Lifecycle, ListSpec, Tx } from '../../domain/kernel/index.ts'
import { mutation, ok } from './envelope.ts'
import { lifecycleRoutes } from './lifecycle-routes.ts'
import { levelOf, pathOf, readingRoutes, wordsOf } from './reading-routes.ts'
import { tagged } from './version.ts'

interface Made {
  id: string
  version: number
}

interface DocumentRoutes<B extends TSchema> {
  /** The platform module that a tenant needs for it; null for what every tenant has. */
  module: string | null
  /** The stem of its permissions: `erp.purchase_order`. */
  permission: string
  list: ListSpec
  /** One of them as it is sent. */
  schema: TSchema
  /** Throws `not_found`. */
  get: (tx: Tx, id: string, request: FastifyRequest) => Promise<{ version: number }>
  /** As of `readingRoutes`. */
  visible?: (request: FastifyRequest) => readonly Fragment[]
  create: {
    summary: string
    body: B
    run: (tx: Tx, input: Static<B>, request: FastifyRequest) => Promise<Made>
    refusals?: Detail[]
    /** Never for platform staff in a user's place. */
    notImpersonated?: true
    /** Also while the tenant may only read. */
    allowReadOnly?: true
  }
  moves?: {
    // biome-ignore lint/suspicious/noExplicitAny: a lifecycle of any document
    lifecycle: Lifecycle<any>
    move: (tx: Tx, name: string, id: string, version: number, input: object) => Promise<{ version: number }>
    /** What a transition must know that only the request knows, such as the approver's limit. */
    input?: Record<string, (request: FastifyRequest) => object>
    refusals?: Detail[]
  }
}

/** The routes of a document as a Fastify plugin. */
export const documentRoutes =
  <B extends TSchema>({ module, permission, list, schema, get, visible, create, moves }: DocumentRoutes<B>) =>
  async (app: FastifyInstance) => {
    const path = pathOf(list.row.table)
    await app.register(readingRoutes({ module, permission, list, schema, get, ...(visible ? { visible } : {}) }))
    app.post<{ Body: object }>(
      path,
      {
        level: levelOf(list.row),
        permission: `${permission}.create`,
        ...(create.notImpersonated ? { notImpersonated: true } : {}),
        ...(create.allowReadOnly ? { allowReadOnly: true } : {}),
        ...(module ? { module } : {}),
        schema: {
          tags: [wordsOf(path).tag],
          summary: create.summary,
          body: create.body,
          response: { 201: ok(schema), ...mutation('invalid_reference', ...(create.refusals ?? [])) },
        },
      },
      async (request, reply) => {
        const made = await request.write((tx) => create.run(tx, request.body as Static<B>, request))
        reply.status(201).header('location', `/api/v1${path}/${made.id}`)
        return tagged(reply, made)
      },
    )
    if (moves) await app.register(lifecycleRoutes(moves.lifecycle, { module, document: schema, ...moves }))
  }

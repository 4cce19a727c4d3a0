// `POST …/{id}/{transition}` for every move that people make.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type TSchema, Type } from 'typebox'
import type { Level } from '../../domain/access/index.ts'
import { type Detail, type Lifecycle, type Tx, Version } from '../../domain/kernel/index.ts'
import { mutation, ok } from './envelope.ts'
import { Id, levelOf, pathOf, wordsOf } from './reading-routes.ts'
import { tagged, versionOf } from './version.ts'

interface LifecycleRoutes {
  module: string | null
  plane?: 'data' | 'control' | 'telemetry'
  /** The level of the permissions; that of the table's rows when omitted. */
  level?: Level
  document: TSchema
  move: (tx: Tx, name: string, id: string, version: number, input: object) => Promise<{ version: number }>
  /** What a transition must know that only the request knows, such as the approver's limit. */
  input?: Record<string, (request: FastifyRequest) => object>
  /** What its guards may answer beside the usual. */
  refusals?: Detail[]
}

const OnlyVersion = Type.Optional(Type.Object({ version: Type.Optional(Version) }, { additionalProperties: false }))

// biome-ignore lint/suspicious/noExplicitAny: a lifecycle of any document
type AnyLifecycle = Lifecycle<any>

/** The transition routes of a document as a Fastify plugin; each needs the permission `<entity>.<transition>`. */
export const lifecycleRoutes =
  (
    lifecycle: AnyLifecycle,
    { module, plane = 'data', level = levelOf(lifecycle.row), document, move, input = {}, refusals = [] }: LifecycleRoutes,
  ) =>
  async (app: FastifyInstance) => {
    const path = pathOf(lifecycle.row.table)
    for (const [name, transition] of Object.entries(lifecycle.transitions)) {
      if (transition.internal) continue
      app.post<{ Params: { id: string }; Body: object | undefined }>(
        `${path}/:id/${name}`,
        {
          level,
          permission: `${lifecycle.permission}.${name}`,
          ...(module ? { module } : {}),
          plane,
          schema: {
            tags: [wordsOf(path).tag],
            summary: transition.summary,
            description: `From ${[transition.from].flat().join(', ')} to ${transition.to}.`,
            params: Id,
            body: transition.input ? Type.Optional(transition.input) : OnlyVersion,
            response: {
              200: ok(document),
              ...mutation('not_found', 'version_required', 'version_conflict', 'invalid_transition', ...refusals),
            },
          },
        },
        async (request, reply) => {
          const version = versionOf(request)
          const given = { ...(request.body as object | undefined), ...input[name]?.(request) }
          return tagged(reply, await request.write((tx) => move(tx, name, request.params.id, version, given)))
        },
      )
    }
  }

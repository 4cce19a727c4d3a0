// What every record can be asked, master data or document: its list, itself, and its history.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type TSchema, Type } from 'typebox'
import type { Level } from '../../domain/access/index.ts'
import {
  Change,
  type Fragment,
  historyOf,
  type ListSpec,
  listedSchema,
  listRows,
  type Row,
  type Tx,
  Uuid,
} from '../../domain/kernel/index.ts'
import { guarded, ok, Pagination } from './envelope.ts'
import { replyList } from './list-reply.ts'
import { withNames } from './names.ts'
import { tagged } from './version.ts'

export const Id = Type.Object({ id: Uuid })
export const ListQuerystring = Type.Record(Type.String(), Type.String({ maxLength: 2000 }), {
  description: 'limit, cursor, sort, q, count, expand, fields and filters: field=value[,value], field.gt|gte|lt|lte|ne|like|null=value',
})

/** `erp_purchase_order` → `/erp/purchase-orders`, `res_users` → `/users` */
export function pathOf(table: string): string {
  const [area, ...rest] = table.split('_')
  const name = rest.join('-')
  if (area === 'res') return `/${name}`
  const plural = name.endsWith('y') ? `${name.slice(0, -1)}ies` : /(s|x|ch|sh)$/.test(name) ? `${name}es` : `${name}s`
  return `/${area === 'tel' ? 'telemetry' : area}/${plural}`
}

/** The tag of endpoints at a path, and what they are called in a sentence. */
export const wordsOf = (path: string) => {
  const tag = path.split('/').at(-1)!
  return { tag, noun: tag.replaceAll('-', ' ') }
}

/** The level that routes over a table's rows are decided on, where nothing else is declared. */
export function levelOf({ scope, within }: Row): Level {
  if (within) return 'object'
  return scope === 'workspace' || scope === 'organization' ? scope : 'tenant'
}

interface Readable {
  /** Where they are; when nothing is said, where the name of their table says. */
  path?: string
  module: string | null
  /** The stem of its permissions: `erp.purchase_order`. */
  permission: string
  plane?: 'data' | 'telemetry' | 'control'
  /** The level of the permission; that of the table's rows when omitted. */
  level?: Level
  /** The path parameter that names the organization whose scope decides. */
  organizationFrom?: string
  list: ListSpec
  /** One of them as it is sent. */
  schema: TSchema
  /** Throws `not_found`. */
  get: (tx: Tx, id: string, request: FastifyRequest) => Promise<{ version: number }>
  /** Conditions of the rows that the caller sees, where `get` refuses some; then the history asks `get` first, too. */
  visible?: (request: FastifyRequest) => readonly Fragment[]
  /** Parameters of the list beside its columns, each with the condition that it makes, and the permission that guards what it tells. */
  narrowing?: Readonly<Record<string, { permission: string; where: (tx: Tx, value: string) => Fragment }>>
  /** Tables whose changes are recorded under the record's id, and shown in its history. */
  parts?: readonly string[]
  /** Which endpoints there are; all when nothing is said. */
  has?: (what: 'list' | 'get' | 'history') => boolean
}

/** The reading routes as a Fastify plugin. */
export const readingRoutes =
  ({
    list,
    path = pathOf(list.row.table),
    module,
    permission,
    plane = 'data',
    schema,
    get,
    visible,
    has = () => true,
    parts = [],
    narrowing = {},
    ...decided
  }: Readable) =>
  async (app: FastifyInstance) => {
    const { tag, noun } = wordsOf(path)
    const tags = [tag]
    const options = { level: levelOf(list.row), ...decided, permission: `${permission}.read`, ...(module ? { module } : {}), plane }

    if (has('list')) {
      app.get(
        path,
        {
          ...options,
          schema: {
            tags,
            summary: `List ${noun}`,
            querystring: ListQuerystring,
            response: { 200: ok(Type.Array(listedSchema(list)), { pagination: Pagination }), ...guarded('invalid_cursor') },
          },
        },
        (request, reply) =>
          replyList(
            request,
            reply,
            list,
            async (tx, query) => {
              const asked = request.query as Record<string, string>
              const narrowed = Object.entries(narrowing).flatMap(([name, { permission, where }]) => {
                if (asked[name] === undefined) return []
                request.require(permission)
                return [where(tx, asked[name])]
              })
              const page = await listRows(tx, list, query, [...(visible?.(request) ?? []), ...narrowed])
              return { ...page, rows: await request.reveal(list.row, page.rows) }
            },
            Object.keys(narrowing),
          ),
      )
    }
    if (has('get')) {
      app.get<{ Params: { id: string } }>(
        `${path}/:id`,
        {
          ...options,
          schema: { tags, summary: `One of the ${noun}`, params: Id, response: { 200: ok(schema), ...guarded('not_found') } },
        },
        async (request, reply) => {
          const found = await request.read((tx) => get(tx, request.params.id, request))
          return tagged(reply, (await request.reveal(list.row, [found]))[0]!)
        },
      )
    }
    if (has('history')) {
      app.get<{ Params: { id: string } }>(
        `${path}/:id/history`,
        {
          ...options,
          schema: {
            tags,
            summary: `Who changed it, when and how: ${noun}`,
            params: Id,
            response: { 200: ok(Type.Array(Change)), ...guarded('not_found') },
          },
        },
        async (request) => {
          const changes = await request.read(async (tx) => {
            if (visible) await get(tx, request.params.id, request)
            return historyOf(tx, list.row, request.params.id, parts)
          })
          return { data: await withNames(request, changes) }
        },
      )
    }
  }

// The trail: read, and asked to prove itself.
import { Readable } from 'node:stream'
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import { AuditEvent, type AuditFilter, auditPage, isTipGenuine, keptTip, Verification, verifyTrail } from '../domain/audit/index.ts'
import { csvLine } from '../domain/files/index.ts'
import { type ListQuery, oneOf, readCursor, Timestamp, Uuid, writeCursor } from '../domain/kernel/index.ts'
import { wantsCsv } from './http/csv.ts'
import { guarded, ok, Pagination } from './http/envelope.ts'
import { withNames } from './http/names.ts'

const Plane = oneOf(['control', 'data', 'telemetry'], {
  default: 'data',
  description: 'control: people, rights, settings; data: the ERP; telemetry: devices',
})
const Query = Type.Object(
  {
    plane: Type.Optional(Plane),
    entity: Type.Optional(Type.String({ maxLength: 100, examples: ['erp_purchase_order'] })),
    entity_id: Type.Optional(Uuid),
    organization_id: Type.Optional(Uuid),
    about: Type.Optional(
      Type.String({
        format: 'uuid',
        description:
          'A user or role: changes of it and of what names it, such as assignments, overrides, keys, factors and sessions (plane `control`)',
      }),
    ),
    actor_id: Type.Optional(Uuid),
    action: Type.Optional(Type.String({ maxLength: 100, examples: ['update'] })),
    correlation_id: Type.Optional(Type.String({ maxLength: 128 })),
    from: Type.Optional(Timestamp),
    to: Type.Optional(Timestamp),
    limit: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 200, description: 'Entries of a page, 50 when omitted; of a CSV, all when omitted' }),
    ),
    cursor: Type.Optional(Type.String({ maxLength: 2000 })),
  },
  { additionalProperties: false },
)
const CSV_PAGE = 200

export default async function audit(app: FastifyInstance) {
  const { files, settings } = app.services
  const tags = ['audit']

  app.get<{ Querystring: Static<typeof Query> }>(
    '/audit',
    {
      level: 'object',
      permission: 'audit.event.read',
      schema: {
        tags,
        summary: 'Who did what, when; newest first; as CSV with `Accept: text/csv`',
        querystring: Query,
        response: { 200: ok(Type.Array(AuditEvent), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    async (request, reply) => {
      const { plane = 'data', limit: given, cursor, ...filter } = request.query
      const limit = given ?? 50
      const scope = `${request.tenant.id} audit ${plane}`
      const asked = filter as AuditFilter
      const binding: ListQuery = { limit, sort: [], filters: [], expand: [], q: JSON.stringify(asked) }
      // The trail lies beside what it tells of, in each plane's database.
      const page = (size: number, after: readonly unknown[] | null) => request.read((tx) => auditPage(tx, asked, size, after), plane)
      if (wantsCsv(request)) {
        const first = await page(given ?? CSV_PAGE, null)
        const names = Object.keys(AuditEvent.properties) as (keyof AuditEvent)[]
        async function* lines() {
          yield csvLine(names)
          for (let part = first; ; part = await page(CSV_PAGE, part.next)) {
            yield (await withNames(request, part.rows)).map((row) => csvLine(names.map((name) => row[name]))).join('')
            if (!part.next || given) return
          }
        }
        return reply
          .type('text/csv; charset=utf-8')
          .header('content-disposition', 'attachment; filename="audit.csv"')
          .send(Readable.from(lines()))
      }
      const key = settings.cursorKey
      const { rows, next } = await page(limit, cursor ? readCursor(key, scope, binding, cursor) : null)
      const nextCursor = next ? writeCursor(key, scope, binding, next) : null
      return { data: await withNames(request, rows), pagination: { limit, next_cursor: nextCursor } }
    },
  )

  app.get<{ Querystring: { plane?: 'control' | 'data' | 'telemetry' } }>(
    '/audit/verify',
    {
      level: 'tenant',
      permission: 'audit.event.verify',
      schema: {
        tags,
        summary: 'Has anything in the trail been changed, removed or added behind the application',
        querystring: Type.Object({ plane: Type.Optional(Plane) }, { additionalProperties: false }),
        response: { 200: ok(Verification), ...guarded() },
      },
    },
    async (request) => {
      const { plane = 'data' } = request.query
      const tip = await keptTip(files, request.tenant.id, plane)
      const kept = tip && { tip, genuine: isTipGenuine(settings.sealKey, tip, request.tenant.id, plane) }
      return { data: await request.read((tx) => verifyTrail(tx, settings.sealKey, kept), plane) }
    },
  )
}

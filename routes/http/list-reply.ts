// Lists over HTTP: query in, page or CSV out.
import { Readable } from 'node:stream'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { csvLine } from '../../domain/files/index.ts'
import { type ListQuery, type ListSpec, type Page, parseListQuery, readCursor, type Tx, writeCursor } from '../../domain/kernel/index.ts'
import { wantsCsv } from './csv.ts'

const CSV_PAGE = 200

/** Answers a list as the contract says; with `Accept: text/csv` as CSV, page after page, so memory stays flat. */
export async function replyList(
  request: FastifyRequest,
  reply: FastifyReply,
  spec: ListSpec,
  load: (tx: Tx, query: ListQuery) => Promise<Page>,
  narrowing: readonly string[] = [],
) {
  const { cursor, ...given } = request.query as Record<string, string>
  const query = parseListQuery(spec, Object.fromEntries(Object.entries(given).filter(([name]) => !narrowing.includes(name))))
  // Expanding shows what another list guards.
  for (const name of query.expand) {
    const { permission } = spec.expand![name]!
    if (permission) request.require(permission)
  }
  const key = request.server.services.settings.cursorKey
  const narrowed = narrowing.filter((name) => given[name] !== undefined).map((name) => ` ${name}=${given[name]}`)
  const scope = `${request.tenant.id} ${request.context.organizationId} ${spec.row.table}${narrowed.join('')}`
  if (cursor) query.after = readCursor(key, scope, query, cursor)
  if (wantsCsv(request)) {
    const names = query.fields ?? [...spec.row.columns]
    query.expand = [] // a table has no rows within rows
    const first = await request.read((tx) => load(tx, { ...query, limit: CSV_PAGE })) // errors come before the stream
    async function* lines() {
      yield csvLine(names)
      for (let page = first; ; page = await request.read((tx) => load(tx, { ...query, limit: CSV_PAGE, after: page.next! }))) {
        yield page.rows.map((r) => csvLine(names.map((name) => (r as Record<string, unknown>)[name]))).join('')
        if (!page.next) return
      }
    }
    return reply
      .type('text/csv; charset=utf-8')
      .header('content-disposition', `attachment; filename="${spec.row.table}.csv"`)
      .send(Readable.from(lines()))
  }
  const page = await request.read((tx) => load(tx, query))
  const next = page.next ? writeCursor(key, scope, query, page.next) : null
  if (next) {
    const url = new URL(request.url, 'http://list')
    url.searchParams.set('cursor', next)
    reply.header('link', `<${url.pathname}${url.search}>; rel="next"`)
  }
  const data = query.fields
    ? page.rows.map((r) => Object.fromEntries([...query.fields!, ...query.expand].map((f) => [f, (r as Record<string, unknown>)[f]])))
    : page.rows
  return { data, pagination: { limit: query.limit, next_cursor: next, ...(page.total === undefined ? {} : { total: page.total }) } }
}

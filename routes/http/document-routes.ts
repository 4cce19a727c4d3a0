// What every document can be asked: its list, itself with its lines, and its history.
import type { FastifyInstance } from 'fastify'
import { type TSchema, Type } from 'typebox'
import { Change, historyOf, type ListSpec, listedSchema, listRows, type Tx } from '../../domain/kernel/index.ts'
import { guarded, ok, Pagination } from './envelope.ts'
import { replyList } from './list-reply.ts'
import { Id, ListQuerystring, pathOf } from './resource-routes.ts'
import { tagged } from './version.ts'

interface DocumentRoutes {
  module: string
  /** The stem of its permissions: `erp.purchase_order`. */
  permission: string
  list: ListSpec
  /** The document as it is sent, with its lines. */
  document: TSchema
  /** Throws `not_found`. */
  get: (tx: Tx, id: string) => Promise<{ version: number }>
}

/** The reading routes of a document as a Fastify plugin. Creating and moving it are its own. */
export const documentRoutes =
  ({ module, permission, list, document, get }: DocumentRoutes) =>
  async (app: FastifyInstance) => {
    const path = pathOf(list.row.table)
    const tags = [path.split('/')[2]!]
    const noun = tags[0]!.replaceAll('-', ' ')
    const options = { permission: `${permission}.read`, module }

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
      (request, reply) => replyList(request, reply, list, (tx, query) => listRows(tx, list, query)),
    )

    app.get<{ Params: { id: string } }>(
      `${path}/:id`,
      {
        ...options,
        schema: {
          tags,
          summary: `One of the ${noun}, with its lines`,
          params: Id,
          response: { 200: ok(document), ...guarded('not_found') },
        },
      },
      async (request, reply) => tagged(reply, await request.read((tx) => get(tx, request.params.id))),
    )

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
      async (request) => ({
        data: await request.read(async (tx) => {
          await get(tx, request.params.id)
          return historyOf(tx, list.row.table, request.params.id)
        }),
      }),
    )
  }

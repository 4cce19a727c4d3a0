// The endpoints of a resource: list, get, create, bulk, update, delete, recover, history.
import type { FastifyInstance } from 'fastify'
import { type TSchema, Type } from 'typebox'
import { Change, listedSchema, type Resource, Uuid } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok, Pagination } from './envelope.ts'
import { replyList } from './list-reply.ts'
import { tagged, versionOf } from './version.ts'

export const Id = Type.Object({ id: Uuid })
export const ListQuerystring = Type.Record(Type.String(), Type.String({ maxLength: 2000 }), {
  description: 'limit, cursor, sort, q, count, expand, fields and filters: field=value[,value], field.gt|gte|lt|lte|ne|like|null=value',
})

/** `erp_purchase_order` → `/erp/purchase-orders` */
export function pathOf(table: string): string {
  const [area, ...rest] = table.split('_')
  const name = rest.join('-')
  const plural = name.endsWith('y') ? `${name.slice(0, -1)}ies` : /(s|x|ch|sh)$/.test(name) ? `${name}es` : `${name}s`
  return `/${area === 'tel' ? 'telemetry' : area}/${plural}`
}

const MAX_BULK = 1000

export interface ResourceRoutesOptions {
  /** Which endpoints there are; all when nothing is said. */
  only?: readonly ('list' | 'get' | 'create' | 'update' | 'delete' | 'history')[]
  plane?: 'data' | 'telemetry'
}

// biome-ignore lint/suspicious/noExplicitAny: a resource of any row; the row's schema says what goes in and out
type AnyResource = Resource<any, any>

/** The routes of a resource as a Fastify plugin. */
export const resourceRoutes =
  (resource: AnyResource, { only, plane = 'data' }: ResourceRoutesOptions = {}) =>
  async (app: FastifyInstance) => {
    const path = pathOf(resource.row.table)
    const tags = [path.split('/')[2]!]
    const noun = tags[0]!.replaceAll('-', ' ')
    const row = resource.row.schema as TSchema
    const has = (what: NonNullable<typeof only>[number]) => !only || only.includes(what)
    const options = (action: string) => ({ permission: `${resource.permission}.${action}`, module: resource.module, plane })

    if (has('list')) {
      app.get(
        path,
        {
          ...options('read'),
          schema: {
            tags,
            summary: `List ${noun}`,
            querystring: ListQuerystring,
            response: { 200: ok(Type.Array(listedSchema(resource.spec)), { pagination: Pagination }), ...guarded('invalid_cursor') },
          },
        },
        (request, reply) => replyList(request, reply, resource.spec, (tx, query) => resource.list(tx, query)),
      )
    }
    if (has('get')) {
      app.get<{ Params: { id: string } }>(
        `${path}/:id`,
        {
          ...options('read'),
          schema: { tags, summary: `One of the ${noun}`, params: Id, response: { 200: ok(row), ...guarded('not_found') } },
        },
        async (request, reply) => tagged(reply, await request.read((tx) => resource.get(tx, request.params.id))),
      )
    }
    if (has('create')) {
      app.post<{ Body: object }>(
        path,
        {
          ...options('create'),
          schema: {
            tags,
            summary: `Create one of the ${noun}`,
            body: resource.row.input,
            response: { 201: ok(row), ...mutation('already_exists', 'invalid_reference') },
          },
        },
        async (request, reply) => {
          const created = await request.write((tx) => resource.create(tx, request.body as object))
          reply.status(201).header('location', `/api/v1${path}/${created.id}`)
          return tagged(reply, created)
        },
      )
      app.post<{ Body: { rows: object[] } }>(
        `${path}/bulk`,
        {
          ...options('create'),
          bodyLimit: 8 * 1024 * 1024,
          schema: {
            tags,
            summary: `Create up to ${MAX_BULK} ${noun}, all or nothing`,
            body: Type.Object(
              { rows: Type.Array(resource.row.input, { minItems: 1, maxItems: MAX_BULK }) },
              { additionalProperties: false },
            ),
            response: { 201: ok(Type.Array(row)), ...mutation('already_exists', 'invalid_reference') },
          },
        },
        async (request, reply) => {
          const created = await request.write((tx) => resource.createMany(tx, request.body.rows))
          reply.status(201)
          return { data: created }
        },
      )
    }
    if (has('update')) {
      app.patch<{ Params: { id: string }; Body: object }>(
        `${path}/:id`,
        {
          ...options('update'),
          schema: {
            tags,
            summary: `Change one of the ${noun}`,
            params: Id,
            body: resource.row.patch,
            response: {
              200: ok(row),
              ...mutation('not_found', 'version_required', 'version_conflict', 'already_exists', 'invalid_reference'),
            },
          },
        },
        async (request, reply) => {
          const version = versionOf(request)
          return tagged(reply, await request.write((tx) => resource.update(tx, request.params.id, version, request.body as object)))
        },
      )
    }
    if (has('delete') && resource.row.softDelete) {
      app.delete<{ Params: { id: string } }>(
        `${path}/:id`,
        {
          ...options('delete'),
          schema: {
            tags,
            summary: `Delete one of the ${noun}; it can be recovered`,
            params: Id,
            response: { 204: Type.Null(), ...mutation('not_found', 'version_required', 'version_conflict', 'in_use') },
          },
        },
        async (request, reply) => {
          const version = versionOf(request)
          await request.write((tx) => resource.softDelete(tx, request.params.id, version))
          return reply.status(204).send()
        },
      )
      app.post<{ Params: { id: string } }>(
        `${path}/:id/recover`,
        {
          ...options('delete'),
          schema: {
            tags,
            summary: `Bring back a deleted one of the ${noun}`,
            params: Id,
            response: { 200: ok(row), ...mutation('not_found', 'already_exists') },
          },
        },
        async (request, reply) => tagged(reply, await request.write((tx) => resource.recover(tx, request.params.id))),
      )
    }
    if (has('history')) {
      app.get<{ Params: { id: string } }>(
        `${path}/:id/history`,
        {
          ...options('read'),
          schema: {
            tags,
            summary: `Who changed it, when and how: ${noun}`,
            params: Id,
            response: { 200: ok(Type.Array(Change)), ...guarded('not_found') },
          },
        },
        async (request) => ({ data: await request.read((tx) => resource.history(tx, request.params.id)) }),
      )
    }
  }

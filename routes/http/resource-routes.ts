// The endpoints of a resource: list, get, create, bulk, update, delete, recover, history.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { type TSchema, Type } from 'typebox'
import type { Level } from '../../domain/access/index.ts'
import type { Resource } from '../../domain/kernel/index.ts'
import { mutation, ok } from './envelope.ts'
import { Id, levelOf, pathOf, readingRoutes, wordsOf } from './reading-routes.ts'
import { tagged, versionOf } from './version.ts'

const MAX_BULK = 1000

export interface ResourceRoutesOptions {
  /** Which endpoints there are; all when nothing is said. */
  only?: readonly ('list' | 'get' | 'create' | 'update' | 'delete' | 'history')[]
  plane?: 'data' | 'telemetry' | 'control'
  /** The level of the permissions; that of the table's rows when omitted. */
  level?: Level
  /** The same of the reading routes alone. */
  readLevel?: Level
  /** The path parameter that names the organization whose scope decides. */
  organizationFrom?: string
}

// biome-ignore lint/suspicious/noExplicitAny: a resource of any row; the row's schema says what goes in and out
type AnyResource = Resource<any, any>

/** The routes of a resource as a Fastify plugin. */
export const resourceRoutes =
  (
    resource: AnyResource,
    { only, plane = 'data', level = levelOf(resource.row), readLevel = level, organizationFrom }: ResourceRoutesOptions = {},
  ) =>
  async (app: FastifyInstance) => {
    const path = pathOf(resource.row.table)
    const { tag, noun } = wordsOf(path)
    const tags = [tag]
    const row = resource.row.schema as TSchema
    const has = (what: NonNullable<typeof only>[number]) => !only || only.includes(what)
    const shown = async <R>(request: FastifyRequest, record: R): Promise<R> => (await request.reveal(resource.row, [record]))[0]!
    const named = organizationFrom ? { organizationFrom } : {}
    const options = (action: string) => ({
      level,
      ...named,
      permission: `${resource.permission}.${action}`,
      ...(resource.module ? { module: resource.module } : {}),
      plane,
    })

    await app.register(
      readingRoutes({
        module: resource.module,
        permission: resource.permission,
        plane,
        level: readLevel,
        ...named,
        list: resource.spec,
        schema: row,
        get: resource.get,
        has,
      }),
    )
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
          return tagged(reply, await shown(request, created))
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
          return { data: await request.reveal(resource.row, created) }
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
          const changed = await request.write((tx) => resource.update(tx, request.params.id, version, request.body as object))
          return tagged(reply, await shown(request, changed))
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
        async (request, reply) => tagged(reply, await shown(request, await request.write((tx) => resource.recover(tx, request.params.id)))),
      )
    }
  }

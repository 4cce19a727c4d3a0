// What staff tells tenants: announcements and maintenance windows.
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import { type ListSpec, listRows } from '../../domain/kernel/index.ts'
import {
  announcementList,
  createNotice,
  maintenanceList,
  matchesNotice,
  noticeById,
  removeNotice,
  updateNotice,
} from '../../domain/platform/index.ts'
import { guarded, mutation, ok, Pagination } from '../http/envelope.ts'
import { replyList } from '../http/list-reply.ts'
import { Id, ListQuerystring } from '../http/reading-routes.ts'
import { tagged, versionOf } from '../http/version.ts'
import { STAFF_CHANGE } from './target.ts'

interface Kind {
  path: string
  permission: string
  list: ListSpec
  /** `an announcement` */
  noun: string
  nouns: string
  about: string
}

const KINDS: readonly Kind[] = [
  {
    path: '/superadmin/announcements',
    permission: 'platform.announcement',
    list: announcementList,
    noun: 'an announcement',
    nouns: 'announcements',
    about: 'The users of its tenants (all, those of a plan, or one) see it in `GET /auth/me` from `starts_at` until `ends_at`.',
  },
  {
    path: '/superadmin/maintenance-windows',
    permission: 'platform.maintenance_window',
    list: maintenanceList,
    noun: 'a maintenance window',
    nouns: 'maintenance windows',
    about:
      'Its tenants (all, those of a plan, or one) read only from `starts_at` to `ends_at`, and see it in `GET /auth/me` a week before. The staff host stays open.',
  },
]

export default async function notices(app: FastifyInstance) {
  for (const kind of KINDS) {
    const { path, permission, list, noun, nouns, about } = kind
    const { row } = list
    const tags = ['superadmin']
    const staff = { platform: true, plane: 'control', level: 'tenant' } as const

    app.get(
      path,
      {
        ...staff,
        permission: `${permission}.read`,
        schema: {
          tags,
          summary: `List ${nouns}`,
          querystring: ListQuerystring,
          response: { 200: ok(Type.Array(Type.Partial(row.schema)), { pagination: Pagination }), ...guarded('invalid_cursor') },
        },
      },
      (request, reply) =>
        replyList(request, reply, list, (tx, { q, ...query }) => listRows(tx, list, query, q ? [matchesNotice(list, q)] : [])),
    )
    app.get<{ Params: { id: string } }>(
      `${path}/:id`,
      {
        ...staff,
        permission: `${permission}.read`,
        schema: { tags, summary: `Get ${noun}`, params: Id, response: { 200: ok(row.schema), ...guarded('not_found') } },
      },
      async (request, reply) => tagged(reply, await request.read((tx) => noticeById(tx, row, request.params.id))),
    )
    app.post<{ Body: Record<string, unknown> }>(
      path,
      {
        ...staff,
        permission: `${permission}.create`,
        ...STAFF_CHANGE,
        schema: {
          tags,
          summary: `Create ${noun}`,
          description: about,
          body: row.input,
          response: { 201: ok(row.schema), ...mutation('invalid_reference') },
        },
      },
      async (request, reply) => {
        const made = await request.write((tx) => createNotice(tx, row, request.body))
        reply.status(201).header('location', `/api/v1${path}/${made.id}`)
        return tagged(reply, made)
      },
    )
    app.patch<{ Params: { id: string }; Body: Record<string, unknown> }>(
      `${path}/:id`,
      {
        ...staff,
        permission: `${permission}.update`,
        ...STAFF_CHANGE,
        schema: {
          tags,
          summary: `Change ${noun}`,
          params: Id,
          body: row.patch,
          response: { 200: ok(row.schema), ...mutation('not_found', 'version_required', 'version_conflict', 'invalid_reference') },
        },
      },
      async (request, reply) => {
        const version = versionOf(request)
        return tagged(reply, await request.write((tx) => updateNotice(tx, row, request.params.id, version, request.body)))
      },
    )
    app.delete<{ Params: { id: string } }>(
      `${path}/:id`,
      {
        ...staff,
        permission: `${permission}.delete`,
        ...STAFF_CHANGE,
        schema: {
          tags,
          summary: `Delete ${noun}; its tenants do not see it from the next request on`,
          params: Id,
          response: { 204: Type.Null(), ...mutation('not_found', 'version_required', 'version_conflict') },
        },
      },
      async (request, reply) => {
        const version = versionOf(request)
        await request.write((tx) => removeNotice(tx, row, request.params.id, version))
        return reply.status(204).send()
      },
    )
  }
}

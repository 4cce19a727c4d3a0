// Links between users and their company's sign-in: a user's own, and those of others for administrators.
import type { FastifyInstance, FastifyRequest } from 'fastify'
import { Type } from 'typebox'
import { assertCanAdminister } from '../../domain/access/index.ts'
import { confirmLink, confirmOwnLink, linksOf, removeLink, requireNoSso, SsoLink, userLifecycle } from '../../domain/identity/index.ts'
import { type Tx, Uuid } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'

const LinkOf = Type.Object({ id: Uuid, link: Uuid })

export default async function ssoLinks(app: FastifyInstance) {
  const tags = ['single sign-on']
  const own = { authenticated: true, sessionOnly: true, allowReadOnly: true, plane: 'control' } as const
  const administer = { plane: 'control', level: 'tenant', sessionOnly: true } as const
  const assertMayAct = (tx: Tx, request: FastifyRequest, userId: string) => assertCanAdminister(tx, request.granter, userId)

  app.get(
    '/auth/sso/links',
    {
      authenticated: true,
      sessionOnly: true,
      plane: 'control',
      schema: {
        tags,
        summary: 'List my links to identity providers',
        response: { 200: ok(Type.Array(SsoLink)), ...guarded('session_required') },
      },
    },
    async (request) => ({ data: await request.read((tx) => linksOf(tx, request.actor.userId!)) }),
  )
  app.post<{ Params: { id: string } }>(
    '/auth/sso/links/:id/confirm',
    {
      ...own,
      stepUp: true,
      schema: {
        tags,
        summary: 'Confirm a requested or suspended link of my account; needs a session by password, passkey or second factor',
        params: Id,
        response: { 200: ok(SsoLink), ...mutation('not_found', 'invalid_transition', 'already_exists', 'session_required') },
      },
    },
    async (request) => ({ data: await request.write((tx) => confirmOwnLink(tx, request.params.id, request.session!.methods)) }),
  )
  app.delete<{ Params: { id: string } }>(
    '/auth/sso/links/:id',
    {
      ...own,
      stepUp: true,
      schema: {
        tags,
        summary: 'Remove a link of my account; sessions through it end',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'last_administrator', 'session_required', 'sso_required') },
      },
    },
    async (request, reply) => {
      await request.write(async (tx) => {
        await requireNoSso(tx, request.grants.email)
        await removeLink(tx, request.actor.userId!, request.params.id)
      })
      return reply.status(204).send()
    },
  )

  app.get<{ Params: { id: string } }>(
    '/users/:id/sso-links',
    {
      ...administer,
      permission: 'identity.sso_link.read',
      schema: {
        tags,
        summary: 'List the links of a user to identity providers',
        params: Id,
        response: { 200: ok(Type.Array(SsoLink)), ...guarded('not_found', 'session_required') },
      },
    },
    async (request) => ({
      data: await request.read(async (tx) => {
        await userLifecycle.get(tx, request.params.id)
        return linksOf(tx, request.params.id)
      }),
    }),
  )
  app.post<{ Params: { id: string; link: string } }>(
    '/users/:id/sso-links/:link/confirm',
    {
      ...administer,
      permission: 'identity.sso_link.confirm',
      stepUp: true,
      schema: {
        tags,
        summary: 'Confirm a requested or suspended link of a user; the actor holds everything that the account holds',
        params: LinkOf,
        response: {
          200: ok(SsoLink),
          ...mutation('not_found', 'invalid_transition', 'already_exists', 'grant_exceeds', 'session_required'),
        },
      },
    },
    async (request) => ({
      data: await request.write(async (tx) => {
        await assertMayAct(tx, request, request.params.id)
        return confirmLink(tx, request.params.id, request.params.link, 'administrator')
      }),
    }),
  )
  app.delete<{ Params: { id: string; link: string } }>(
    '/users/:id/sso-links/:link',
    {
      ...administer,
      permission: 'identity.sso_link.delete',
      stepUp: true,
      schema: {
        tags,
        summary: 'Remove a link of a user; sessions through it end and roles given by groups are withdrawn',
        params: LinkOf,
        response: { 204: Type.Null(), ...mutation('not_found', 'grant_exceeds', 'last_administrator', 'session_required') },
      },
    },
    async (request, reply) => {
      const { id, link } = request.params
      await request.write(async (tx) => {
        await assertMayAct(tx, request, id)
        await removeLink(tx, id, link)
      })
      return reply.status(204).send()
    },
  )
}

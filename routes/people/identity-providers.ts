// Setting up the identity providers of a tenant.
import type { FastifyInstance } from 'fastify'
import { Type } from 'typebox'
import {
  CLIENT_SECRET_PURPOSE,
  createIdentityProvider,
  deleteIdentityProvider,
  IdentityProvider,
  IdentityProviderPatch,
  identityProviders,
  NewIdentityProvider,
  ProviderDomain,
  proveDomain,
  providerDomain,
  providerDomains,
  recoverIdentityProvider,
  setClientSecret,
  updateIdentityProvider,
} from '../../domain/identity/index.ts'
import { Uuid } from '../../domain/kernel/index.ts'
import { isShown } from '../../domain/tenancy/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { resourceRoutes } from '../http/resource-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

const DomainOf = Type.Object({ id: Uuid, domain: Uuid })

export default async function identityProviderRoutes(app: FastifyInstance) {
  const { vault } = app.services
  const tags = ['single sign-on']
  const setup = { plane: 'control', level: 'tenant', stepUp: true } as const
  const path = '/tenant/identity-providers'

  await app.register(resourceRoutes(identityProviders, { plane: 'control', only: ['list', 'get', 'history'] }), { prefix: '/tenant' })

  app.post<{ Body: object }>(
    path,
    {
      ...setup,
      permission: 'tenant.identity_provider.create',
      schema: {
        tags,
        summary: 'Create an identity provider',
        description: 'Its domains count once they are proven: GET …/domains names the TXT record of each.',
        body: NewIdentityProvider,
        response: {
          201: ok(IdentityProvider.schema),
          ...mutation('already_exists', 'grant_exceeds', 'invalid_reference', 'session_required', 'sso_not_linked', 'last_administrator'),
        },
      },
    },
    async (request, reply) => {
      const created = await request.write((tx) => createIdentityProvider(tx, request.granter, request.body as object))
      reply.status(201).header('location', `/api/v1${path}/${created.id}`)
      return tagged(reply, created)
    },
  )
  app.patch<{ Params: { id: string }; Body: object }>(
    `${path}/:id`,
    {
      ...setup,
      permission: 'tenant.identity_provider.update',
      schema: {
        tags,
        summary: 'Change an identity provider',
        description:
          'The actor holds every role of the resulting role map. A new issuer or client id clears the client secret, suspends all links, ends the sessions through them, and lifts enforcement.',
        params: Id,
        body: IdentityProviderPatch,
        response: {
          200: ok(IdentityProvider.schema),
          ...mutation(
            'not_found',
            'version_required',
            'version_conflict',
            'already_exists',
            'grant_exceeds',
            'invalid_reference',
            'session_required',
            'sso_not_linked',
            'last_administrator',
          ),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      const changed = await request.write((tx) =>
        updateIdentityProvider(tx, request.granter, request.params.id, version, request.body as object),
      )
      return tagged(reply, changed)
    },
  )
  app.delete<{ Params: { id: string } }>(
    `${path}/:id`,
    {
      ...setup,
      permission: 'tenant.identity_provider.delete',
      schema: {
        tags,
        summary: 'Delete an identity provider; its links are suspended and the roles that its groups gave are withdrawn',
        params: Id,
        response: {
          204: Type.Null(),
          ...mutation('not_found', 'version_required', 'version_conflict', 'last_administrator', 'session_required'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      await request.write((tx) => deleteIdentityProvider(tx, request.params.id, version))
      return reply.status(204).send()
    },
  )
  app.post<{ Params: { id: string } }>(
    `${path}/:id/recover`,
    {
      ...setup,
      permission: 'tenant.identity_provider.delete',
      schema: {
        tags,
        summary: 'Recover a deleted identity provider; its links stay suspended and its domains unproven',
        params: Id,
        response: {
          200: ok(IdentityProvider.schema),
          ...mutation('not_found', 'already_exists', 'grant_exceeds', 'session_required', 'sso_not_linked', 'last_administrator'),
        },
      },
    },
    async (request, reply) => tagged(reply, await request.write((tx) => recoverIdentityProvider(tx, request.granter, request.params.id))),
  )
  app.put<{ Params: { id: string }; Body: { client_secret: string } }>(
    `${path}/:id/secret`,
    {
      ...setup,
      permission: 'tenant.identity_provider.update',
      schema: {
        tags,
        summary: 'Set the client secret; it is never shown again and cleared with a change of issuer or client id',
        params: Id,
        body: Type.Object({ client_secret: Type.String({ minLength: 1, maxLength: 1000 }) }, { additionalProperties: false }),
        response: { 204: Type.Null(), ...mutation('not_found', 'session_required') },
      },
    },
    async (request, reply) => {
      const sealed = await vault.seal(request.tenant.id, CLIENT_SECRET_PURPOSE, request.body.client_secret)
      await request.write((tx) => setClientSecret(tx, request.params.id, sealed))
      return reply.status(204).send()
    },
  )

  app.get<{ Params: { id: string } }>(
    `${path}/:id/domains`,
    {
      permission: 'tenant.identity_provider.read',
      plane: 'control',
      level: 'tenant',
      schema: {
        tags,
        summary: 'List the domains of an identity provider with the TXT record that proves each',
        params: Id,
        response: { 200: ok(Type.Array(ProviderDomain)), ...guarded('not_found') },
      },
    },
    async (request) => ({
      data: await request.read(async (tx) => {
        await identityProviders.get(tx, request.params.id)
        return providerDomains(tx, request.params.id)
      }),
    }),
  )
  app.post<{ Params: { id: string; domain: string } }>(
    `${path}/:id/domains/:domain/verify`,
    {
      ...setup,
      permission: 'tenant.identity_provider.update',
      schema: {
        tags,
        summary: 'Verify a domain of an identity provider in the DNS',
        params: DomainOf,
        response: {
          200: ok(ProviderDomain),
          ...mutation('not_found', 'already_exists', 'session_required', 'sso_not_linked', 'last_administrator'),
        },
      },
    },
    async (request) => {
      const { id, domain } = request.params
      const claim = await request.read(async (tx) => {
        await identityProviders.get(tx, id)
        return providerDomain(tx, id, domain)
      })
      const shown = await isShown(claim, app.services.resolveTxt)
      return {
        data: await request.write((tx) => proveDomain(tx, id, domain, shown)),
      }
    },
  )
}

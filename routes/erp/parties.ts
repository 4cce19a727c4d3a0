// What is special to parties: doubles are found, and made one.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  asksForContacts,
  Description,
  Duplicate,
  duplicatesOf,
  duplicatesOfParty,
  mergeParty,
  Party,
} from '../../domain/erp/parties/index.ts'
import { Uuid, Version } from '../../domain/kernel/index.ts'
import { guarded, mutation, ok } from '../http/envelope.ts'
import { Id } from '../http/reading-routes.ts'
import { tagged, versionOf } from '../http/version.ts'

const module = 'erp.parties'
const tags = ['parties']
/** Mail addresses and telephones of contacts are compared for those who may read contacts. */
const CONTACTS = 'erp.party_contact.read'
const Merge = Type.Object({ into: Uuid, version: Type.Optional(Version) }, { additionalProperties: false })

export default async function parties(app: FastifyInstance) {
  app.get<{ Params: { id: string } }>(
    '/erp/parties/:id/duplicates',
    {
      level: 'organization',
      permission: 'erp.party.read',
      module,
      schema: {
        tags,
        summary: 'List parties that may be the same as this one, surest first',
        description: 'Contacts are compared for callers with `erp.party_contact.read`.',
        params: Id,
        response: { 200: ok(Type.Array(Duplicate)), ...guarded('not_found') },
      },
    },
    async (request) => ({ data: await request.read((tx) => duplicatesOfParty(tx, request.params.id, request.may(CONTACTS))) }),
  )
  // A question, but mail addresses do not belong into addresses of pages, which are logged on the way.
  app.post<{ Body: Static<typeof Description> }>(
    '/erp/parties/duplicates',
    {
      level: 'organization',
      permission: 'erp.party.create',
      module,
      allowReadOnly: true,
      schema: {
        tags,
        summary: 'Find parties like the one described, before it is created',
        description: 'With an email or a phone it needs `erp.party_contact.read`, too.',
        body: Description,
        response: { 200: ok(Type.Array(Duplicate)), ...mutation() },
      },
    },
    async (request) => {
      if (asksForContacts(request.body)) request.require(CONTACTS)
      return { data: await request.read((tx) => duplicatesOf(tx, request.body)) }
    },
  )
  app.post<{ Params: { id: string }; Body: Static<typeof Merge> }>(
    '/erp/parties/:id/merge',
    {
      level: 'organization',
      permission: 'erp.party.merge',
      module,
      schema: {
        tags,
        summary: 'Make this party one with another: all that refers to it refers to that one, and it is deleted',
        params: Id,
        body: Merge,
        response: {
          200: ok(Party.schema),
          ...mutation('not_found', 'version_required', 'version_conflict', 'invalid_reference', 'in_use'),
        },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      return tagged(reply, await request.write((tx) => mergeParty(tx, request.params.id, request.body.into, version)))
    },
  )
}

// The caller of a request as a reader of files.
import type { FastifyRequest } from 'fastify'
import { EXCHANGED } from '../../domain/erp/exchange/index.ts'
import { type FileReader, LINKABLE, readPermissionOf } from '../../domain/files/index.ts'

const READ_PERMISSIONS = [...new Set([...LINKABLE, ...EXCHANGED].map(readPermissionOf))]

/** The caller as a reader of files, with the permissions held in the context. */
export const fileReaderOf = (request: FastifyRequest): FileReader => ({
  // A key is not its maker: it sees what its permissions show, and no file for being its maker's own.
  userId: request.apiKey ? null : request.actor!.userId,
  anyFile: request.may('file.object.read'),
  permissions: READ_PERMISSIONS.filter((permission) => request.may(permission)),
})

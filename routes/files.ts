// Files: bytes in by multipart, out with ranges, pictures made small, and what they belong to.
import multipart from '@fastify/multipart'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  assertDownloadable,
  deleteFile,
  FileDocument,
  FileLink,
  FileObject,
  fileList,
  filesOf,
  getFile,
  linkFile,
  listFiles,
  NewLink,
  noteFile,
  noteVerdict,
  PREVIEW_SIZES,
  type PreviewSize,
  RecordName,
  readPermissionOf,
  unlinkFile,
} from '../domain/files/index.ts'
import { Failure, failure, fingerprintOf, listedSchema, newId, Uuid } from '../domain/kernel/index.ts'
import { guarded, mutation, ok, Pagination } from './http/envelope.ts'
import { fileReaderOf } from './http/file-reader.ts'
import { replyList } from './http/list-reply.ts'
import { Id, ListQuerystring } from './http/reading-routes.ts'
import { tagged, versionOf } from './http/version.ts'

const tags = ['files']
const Attach = Type.Partial(NewLink, { additionalProperties: false })
const Preview = Type.Object(
  { size: Type.Optional(Type.Integer({ enum: [...PREVIEW_SIZES], default: 256, description: 'The longer side, in pixels' })) },
  { additionalProperties: false },
)
const OfLink = Type.Object({ id: Uuid, link: Uuid }, { additionalProperties: false })

/** A name as a header carries it, with any letters: RFC 6266. */
const dispositionOf = (kind: 'attachment' | 'inline', name: string): string =>
  `${kind}; filename="${name.replace(/[^\x20-\x7e]|["\\]/g, '_')}"; filename*=UTF-8''${encodeURIComponent(name)}`

/** `bytes=0-99` of so many bytes; null for all of them. Throws `range_not_satisfiable`. More than one range is answered with all. */
function rangeOf(header: string | undefined, size: number): { start: number; end: number } | null {
  const match = header?.match(/^bytes=(\d*)-(\d*)$/)
  if (!match || (match[1] === '' && match[2] === '')) return null
  const [from, to] = [match[1]!, match[2]!]
  const start = from === '' ? Math.max(0, size - Number(to)) : Number(from)
  const end = from === '' || to === '' ? size - 1 : Math.min(Number(to), size - 1)
  if (start > end || start >= size) throw failure('range_not_satisfiable', { size })
  return { start, end }
}

/** A name without folders and control characters. */
const nameOf = (given: string | undefined): string =>
  given
    ?.split(/[/\\]/)
    .at(-1)
    ?.replace(/\p{Cc}/gu, '')
    .slice(0, 255) || 'file'

/** A body that is no form, or breaks off, is the caller's; what else went wrong is not. */
function malformed(error: Error & { code?: string }): never {
  if (error instanceof Failure || (error.code && !error.code.startsWith('FST_'))) throw error
  throw failure('invalid_body', { errors: [{ path: '', rule: 'multipart', message: error.message }] })
}

/** Reads the rest of a body to nowhere, so that a caller who is still sending gets the answer. */
function drain({ raw }: FastifyRequest): void {
  raw.unpipe()
  raw.resume()
}

/** What keeps a browser from taking bytes for more than they are. */
const harmless = (reply: FastifyReply) =>
  reply
    .header('x-content-type-options', 'nosniff')
    .header('content-security-policy', "default-src 'none'; sandbox")
    .header('cache-control', 'private, no-cache')

export default async function files(app: FastifyInstance) {
  const { files: keeper } = app.services
  await app.register(multipart, { limits: { files: 1, fields: 0, parts: 1, fileSize: keeper.mostBytes + 1 } })

  /** A file that may be served; one in quarantine is shown to the scanner again. */
  async function served(request: FastifyRequest<{ Params: { id: string } }>) {
    const { tenant, params } = request
    const reader = fileReaderOf(request)
    const file = await request.read((tx) => getFile(tx, params.id, reader))
    assertDownloadable(file, reader)
    if (file.scan !== 'pending') return file
    const verdict = await keeper.judge(tenant.id, file)
    return verdict ? await request.write((tx) => noteVerdict(tx, file.id, verdict)) : file
  }

  app.get(
    '/files',
    {
      level: 'workspace',
      permission: 'file.object.read',
      schema: {
        tags,
        summary: 'List files',
        querystring: ListQuerystring,
        response: { 200: ok(Type.Array(listedSchema(fileList)), { pagination: Pagination }), ...guarded('invalid_cursor') },
      },
    },
    (request, reply) => {
      const reader = fileReaderOf(request)
      return replyList(request, reply, fileList, async (tx, query) => listFiles(tx, query, reader))
    },
  )

  app.get<{ Params: { id: string } }>(
    '/files/:id',
    {
      level: 'workspace',
      permission: 'file.object.read',
      schema: { tags, summary: 'Get a file', params: Id, response: { 200: ok(FileDocument), ...guarded('not_found') } },
    },
    async (request, reply) => {
      const reader = fileReaderOf(request)
      return tagged(reply, await request.read((tx) => getFile(tx, request.params.id, reader)))
    },
  )

  app.get<{ Querystring: RecordName }>(
    '/files/attached',
    {
      level: 'workspace',
      permission: 'file.object.read',
      schema: {
        tags,
        summary: 'List the files of a record',
        description: 'Needs the permission to read the record, too.',
        querystring: RecordName,
        response: { 200: ok(Type.Array(FileObject.schema)), ...guarded('not_found') },
      },
    },
    async (request) => {
      request.require(readPermissionOf(request.query.entity))
      const reader = fileReaderOf(request)
      return { data: await request.read((tx) => filesOf(tx, request.query, reader)) }
    },
  )

  app.post<{ Querystring: Static<typeof Attach> }>(
    '/files',
    {
      level: 'workspace',
      permission: 'file.object.create',
      bodyLimit: keeper.mostBytes + 64 * 1024,
      schema: {
        tags,
        summary: 'Upload a file, as multipart/form-data with the part `file`; attached to a record where one is named',
        consumes: ['multipart/form-data'],
        querystring: Attach,
        response: {
          201: ok(FileDocument),
          ...mutation('invalid_reference', 'plan_limit', 'file_infected', 'file_type_not_allowed', 'file_store_unavailable'),
        },
      },
    },
    async (request, reply) => {
      const { tenant, query } = request
      if ((query.entity === undefined) !== (query.entity_id === undefined))
        throw failure('invalid_query', { errors: [{ path: '/entity', rule: 'with', message: 'is named with entity_id' }] })
      if (query.entity) request.require(readPermissionOf(query.entity))
      if (!request.isMultipart()) throw failure('unsupported_media_type', {}, 'Send multipart/form-data with the part `file`.')
      const part = await request.file().catch(malformed)
      if (!part)
        throw failure('invalid_body', { errors: [{ path: '/file', rule: 'required', message: 'is the part that holds the bytes' }] })
      const id = newId()
      const { file: _, ...received } = await keeper.take(tenant.id, id, part.file).catch((error) => {
        drain(request)
        return malformed(error)
      })
      const name = nameOf(part.filename)
      // The same key for other bytes is another request.
      if (request.once) request.once.fingerprint = fingerprintOf(request.method, request.url, { name, sha256: received.sha256 })
      try {
        const link = query.entity ? (query as Static<typeof NewLink>) : undefined
        const noted = await request.write((tx) => noteFile(tx, { id, name, scan: keeper.state, ...received }, link ? { link } : {}))
        if (noted.id !== id) await keeper.remove(tenant.id, id) // it had come before
        const verdict = noted.scan === 'pending' ? await keeper.judge(tenant.id, noted) : null
        request.once = undefined
        const made = verdict ? await request.write((tx) => noteVerdict(tx, noted.id, verdict)) : noted
        if (made.scan === 'infected') throw failure('file_infected', { id: made.id, finding: made.finding })
        reply.status(201).header('location', `/api/v1/files/${made.id}`)
        return tagged(reply, made)
      } catch (error) {
        // Refused: nothing knows of these bytes. After a failure of another kind the row may be there, and they stay.
        if (error instanceof Failure && error.status < 500 && error.detail !== 'file_infected') await keeper.remove(tenant.id, id)
        throw error
      }
    },
  )

  app.get<{ Params: { id: string } }>(
    '/files/:id/content',
    {
      level: 'workspace',
      notImpersonated: true,
      permission: 'file.object.read',
      schema: {
        tags,
        summary: 'The bytes of a file, or a range of them',
        params: Id,
        response: { ...guarded('not_found', 'file_infected', 'scanner_unavailable', 'range_not_satisfiable') },
      },
    },
    async (request, reply) => {
      const file = await served(request)
      const etag = `"${file.sha256}"`
      if (request.headers['if-none-match'] === etag) return reply.status(304).header('etag', etag).send()
      // A range of other bytes than the caller has begun with would make a file of two.
      const same = request.headers['if-range'] === undefined || request.headers['if-range'] === etag
      const range = same ? rangeOf(request.headers.range, file.size) : null
      const bytes = await keeper.open(request.tenant.id, file, range ?? undefined)
      // Of bytes alone, not of an error in their place.
      if (range) reply.status(206).header('content-range', `bytes ${range.start}-${range.end}/${file.size}`)
      return harmless(reply)
        .header('etag', etag)
        .header('accept-ranges', 'bytes')
        .type(file.media_type)
        .header('content-length', range ? range.end - range.start + 1 : file.size)
        .header('content-disposition', dispositionOf('attachment', file.name))
        .send(bytes)
    },
  )

  app.get<{ Params: { id: string }; Querystring: Static<typeof Preview> }>(
    '/files/:id/preview',
    {
      level: 'workspace',
      notImpersonated: true,
      permission: 'file.object.read',
      schema: {
        tags,
        summary: 'A picture made small, as WebP',
        params: Id,
        querystring: Preview,
        response: { ...guarded('not_found', 'file_infected', 'scanner_unavailable', 'invalid_value') },
      },
    },
    async (request, reply) => {
      const file = await served(request)
      const { size = 256 } = request.query
      const etag = `"${file.sha256}-${size}"`
      if (request.headers['if-none-match'] === etag) return reply.status(304).header('etag', etag).send()
      const small = await keeper.preview(request.tenant.id, file, size as PreviewSize)
      return harmless(reply)
        .header('etag', etag)
        .type('image/webp')
        .header('content-disposition', dispositionOf('inline', `${file.name}.webp`))
        .send(small)
    },
  )

  app.post<{ Params: { id: string }; Body: Static<typeof NewLink> }>(
    '/files/:id/links',
    {
      level: 'workspace',
      permission: 'file.object.link',
      schema: {
        tags,
        summary: 'Attach a file to a record; twice is once',
        description: 'Needs the permission to read the record, too.',
        params: Id,
        body: NewLink,
        response: { 201: ok(FileLink), ...mutation('not_found', 'invalid_reference') },
      },
    },
    async (request, reply) => {
      request.require(readPermissionOf(request.body.entity))
      const reader = fileReaderOf(request)
      reply.status(201)
      return { data: await request.write((tx) => linkFile(tx, request.params.id, request.body, reader)) }
    },
  )

  app.delete<{ Params: { id: string; link: string } }>(
    '/files/:id/links/:link',
    {
      level: 'workspace',
      permission: 'file.object.link',
      schema: { tags, summary: 'Detach a file from a record', params: OfLink, response: { 204: Type.Null(), ...mutation('not_found') } },
    },
    async (request, reply) => {
      const reader = fileReaderOf(request)
      await request.write((tx) => unlinkFile(tx, request.params.id, request.params.link, reader))
      return reply.status(204).send()
    },
  )

  app.delete<{ Params: { id: string } }>(
    '/files/:id',
    {
      level: 'workspace',
      permission: 'file.object.delete',
      schema: {
        tags,
        summary: 'Delete a file, with its bytes, wherever it is attached',
        params: Id,
        response: { 204: Type.Null(), ...mutation('not_found', 'version_required', 'version_conflict') },
      },
    },
    async (request, reply) => {
      const version = versionOf(request)
      const reader = fileReaderOf(request)
      await request.write(async (tx) => {
        await getFile(tx, request.params.id, reader)
        await deleteFile(tx, request.params.id, version, reader.userId)
      })
      await keeper.remove(request.tenant.id, request.params.id)
      return reply.status(204).send()
    },
  )
}

// Keeps files: bytes in the store, what is known of them in the database, and nothing served that was not found clean.
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'
import { failure, newId, type Secrets } from '../kernel/index.ts'
import { type FileObject, keyOf } from './file.ts'
import { ALLOWED_TYPES } from './media-type.ts'
import { openPicture, PICTURES, type Received, receive, storeFailure } from './receive.ts'
import type { Scan, Verdict } from './scanner.ts'
import { openBytes, sealBytes, sealedRange, sealedSize } from './sealed-bytes.ts'
import type { ByteRange, FileStore } from './store.ts'

export const PREVIEW_SIZES = [64, 256, 1024] as const
export type PreviewSize = (typeof PREVIEW_SIZES)[number]

export interface KeeperOptions {
  store: FileStore
  /** Null where there is no scanner: then files are served unscanned. */
  scan: Scan | null
  /** A folder for what is on its way. */
  incoming: string
  /** Bytes of one file. */
  mostBytes: number
  /** The key at work of a tenant: files of our own making are encrypted under it. */
  secretsOf: (tenantId: string) => Secrets
  /** Media types of uploads that are taken; `ALLOWED_TYPES` by default. */
  types?: readonly string[]
}

/** Properties of a file that say how its bytes lie in the store. */
export type StoredFile = Pick<FileObject, 'id' | 'size' | 'sealed'>

/** Throws `file_infected`, `scanner_unavailable`. */
function requireServable({ scan, finding }: FileObject): void {
  if (scan === 'infected') throw failure('file_infected', { finding })
  if (scan === 'pending') throw failure('scanner_unavailable')
}

export class FileKeeper {
  readonly #options: KeeperOptions
  readonly mostBytes: number

  constructor(options: KeeperOptions) {
    this.#options = options
    this.mostBytes = options.mostBytes
  }

  /** What is noted of a file before anybody looked at it. */
  get state(): 'pending' | 'unscanned' {
    return this.#options.scan ? 'pending' : 'unscanned'
  }

  /** Takes an upload and puts it into the store. Throws as `receive`. */
  async take(tenantId: string, id: string, bytes: NodeJS.ReadableStream): Promise<Received> {
    const { store, incoming, types = ALLOWED_TYPES } = this.#options
    const received = await receive(bytes, incoming, this.mostBytes, types)
    await store.put(keyOf(tenantId, id), received.file, received).catch(async (error: unknown) => {
      await rm(received.file, { force: true }).catch(() => {})
      throw storeFailure(error)
    })
    return received
  }

  /** Puts a file of our own making into the store, of any size, encrypted under the tenant's key. */
  async write(tenantId: string, id: string, bytes: AsyncIterable<string | Buffer>, mediaType: string): Promise<Received> {
    const { store, incoming, secretsOf } = this.#options
    const hash = createHash('sha256')
    let size = 0
    async function* counted() {
      for await (const part of bytes) {
        const chunk = Buffer.from(part as string)
        size += chunk.length
        hash.update(chunk)
        yield chunk
      }
    }
    await mkdir(incoming, { recursive: true })
    const file = path.join(incoming, newId())
    try {
      await pipeline(sealBytes(secretsOf(tenantId), id, counted()), createWriteStream(file, { flags: 'wx' }))
      await store.put(keyOf(tenantId, id), file, { size: sealedSize(size), mediaType: 'application/octet-stream' })
    } catch (error) {
      await rm(file, { force: true })
      throw error
    }
    return { file, size, sha256: hash.digest('hex'), mediaType, width: null, height: null }
  }

  /** The verdict on a file in quarantine; null while the scanner cannot be asked. What is harmful is removed. */
  async judge(tenantId: string, file: StoredFile): Promise<Verdict | null> {
    const { scan, store } = this.#options
    if (!scan) return { clean: true, finding: null }
    const verdict = await scan(await this.#read(tenantId, file)).catch(() => null)
    if (verdict && !verdict.clean) await store.remove(keyOf(tenantId, file.id))
    return verdict
  }

  /** Bytes of a file that may be served. Throws `file_infected`, `scanner_unavailable`, `not_found`. */
  async open(tenantId: string, file: FileObject, range?: ByteRange): Promise<Readable> {
    requireServable(file)
    return this.#read(tenantId, file, range)
  }

  async #read(tenantId: string, { id, size, sealed }: StoredFile, range?: ByteRange): Promise<Readable> {
    const { store, secretsOf } = this.#options
    const wanted = range ?? { start: 0, end: size - 1 }
    const stored = await store.get(keyOf(tenantId, id), sealed ? sealedRange(wanted, size) : range)
    if (!stored) throw failure('not_found')
    if (!sealed) return stored
    // Closed with the answer, also where the caller went away before the first byte.
    return Readable.from(openBytes(secretsOf(tenantId), id, stored, wanted, size), { objectMode: false }).once('close', () =>
      stored.destroy(),
    )
  }

  /**
   * A small picture of a picture, as WebP, made anew from its pixels: whatever else was in the file is not in it. Made
   * once and kept beside it. Throws as `open`, `invalid_value` for what is no picture.
   */
  async preview(tenantId: string, file: FileObject, size: PreviewSize): Promise<Buffer> {
    requireServable(file)
    if (!PICTURES.includes(file.media_type))
      throw failure('invalid_value', { path: 'id', rule: 'picture', message: `is ${file.media_type}, of which there is no preview` })
    const key = `${keyOf(tenantId, file.id)}.${size}`
    const known = await this.#options.store.get(key)
    if (known) return buffer(known)
    const small = await openPicture(await buffer(await this.open(tenantId, file)))
      .rotate()
      .resize({ width: size, height: size, fit: 'inside', withoutEnlargement: true })
      .webp()
      .toBuffer()
      .catch(() => {
        throw failure('invalid_value', { path: 'id', rule: 'picture', message: 'cannot be opened as a picture' })
      })
    await this.#keep(key, small, 'image/webp')
    return small
  }

  /** A small record of the system about a tenant, such as the tip of its seals; null where there is none. */
  async readNote(tenantId: string, name: string): Promise<Buffer | null> {
    const found = await this.#options.store.get(`${tenantId}/notes/${name}`)
    return found && buffer(found)
  }

  /** Keeps a record of the system in place of the one before. */
  writeNote(tenantId: string, name: string, bytes: Buffer): Promise<void> {
    return this.#keep(`${tenantId}/notes/${name}`, bytes, 'application/json')
  }

  async #keep(key: string, bytes: Buffer, mediaType: string): Promise<void> {
    const { store, incoming } = this.#options
    await mkdir(incoming, { recursive: true })
    const file = path.join(incoming, newId())
    await writeFile(file, bytes)
    await store.put(key, file, { size: bytes.length, mediaType })
  }

  /** Removes the bytes of a file and what was made of them. */
  async remove(tenantId: string, id: string): Promise<void> {
    const key = keyOf(tenantId, id)
    await Promise.all([key, ...PREVIEW_SIZES.map((size) => `${key}.${size}`)].map((one) => this.#options.store.remove(one)))
  }
}

// Keeps files: bytes in the store, what is known of them in the database, and nothing served that was not found clean.
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import { failure, newId } from '../kernel/index.ts'
import { type FileObject, keyOf } from './file.ts'
import { ALLOWED_TYPES } from './media-type.ts'
import { openPicture, PICTURES, type Received, receive } from './receive.ts'
import type { Scan, Verdict } from './scanner.ts'
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
  /** Media types of uploads that are taken; `ALLOWED_TYPES` by default. */
  types?: readonly string[]
}

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
  take(tenantId: string, id: string, bytes: NodeJS.ReadableStream): Promise<Received> {
    return this.#put(tenantId, id, bytes, this.mostBytes, this.#options.types ?? ALLOWED_TYPES)
  }

  /** Puts a file of our own making into the store, of any size. */
  write(tenantId: string, id: string, bytes: NodeJS.ReadableStream): Promise<Received> {
    return this.#put(tenantId, id, bytes, Number.POSITIVE_INFINITY, null)
  }

  async #put(tenantId: string, id: string, bytes: NodeJS.ReadableStream, most: number, types: readonly string[] | null): Promise<Received> {
    const { store, incoming } = this.#options
    const received = await receive(bytes, incoming, most, types)
    await store.put(keyOf(tenantId, id), received.file, received)
    return received
  }

  /** The verdict on a file in quarantine; null while the scanner cannot be asked. What is harmful is removed. */
  async judge(tenantId: string, id: string): Promise<Verdict | null> {
    const { scan, store } = this.#options
    if (!scan) return { clean: true, finding: null }
    const bytes = await store.get(keyOf(tenantId, id))
    if (!bytes) throw failure('not_found')
    const verdict = await scan(bytes).catch(() => null)
    if (verdict && !verdict.clean) await store.remove(keyOf(tenantId, id))
    return verdict
  }

  /** Bytes of a file that may be served. Throws `file_infected`, `scanner_unavailable`, `not_found`. */
  async open(tenantId: string, file: FileObject, range?: ByteRange): Promise<Readable> {
    requireServable(file)
    const bytes = await this.#options.store.get(keyOf(tenantId, file.id), range)
    if (!bytes) throw failure('not_found')
    return bytes
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
    await this.#keep(key, small)
    return small
  }

  async #keep(key: string, bytes: Buffer): Promise<void> {
    const { store, incoming } = this.#options
    await mkdir(incoming, { recursive: true })
    const file = path.join(incoming, newId())
    await writeFile(file, bytes)
    await store.put(key, file, { size: bytes.length, mediaType: 'image/webp' })
  }

  /** Removes the bytes of a file and what was made of them. */
  async remove(tenantId: string, id: string): Promise<void> {
    const key = keyOf(tenantId, id)
    await Promise.all([key, ...PREVIEW_SIZES.map((size) => `${key}.${size}`)].map((one) => this.#options.store.remove(one)))
  }
}

// Bytes that come in: counted, hashed, and looked at for what they are, on their way to the disk.
import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, rm } from 'node:fs/promises'
import path from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import sharp from 'sharp'
import { type Failure, failure, newId } from '../kernel/index.ts'
import { assertAllowedType, mediaTypeOf, TextDetector } from './media-type.ts'

export interface Received {
  /** Where they lie for now. */
  file: string
  size: number
  sha256: string
  mediaType: string
  /** Of an image. */
  width: number | null
  height: number | null
}

/** More pixels are no picture for a screen: 30,000 × 30,000 would take 3.6 GB to open. */
export const MOST_PIXELS = 100_000_000
/** What is shown as a picture. SVG is not: it is a program. */
export const PICTURES: readonly string[] = ['image/jpeg', 'image/png', 'image/webp', 'image/gif', 'image/avif', 'image/tiff']

/** Opens a picture with care: no more than so many pixels, and only what is whole. */
export const openPicture = (file: string | Buffer) => sharp(file, { limitInputPixels: MOST_PIXELS, failOn: 'error' })

/** The failure of a store, with its cause for the log. */
export const storeFailure = (cause: unknown): Failure => Object.assign(failure('file_store_unavailable'), { cause })

/** Calls to the disk that fail on a full, read-only or missing volume; `read` is also a call on the caller's socket. */
const WRITING: readonly (string | undefined)[] = ['mkdir', 'open', 'write', 'close']
const isOfDisk = (error: unknown): boolean => WRITING.includes((error as NodeJS.ErrnoException).syscall)

/**
 * Writes bytes into a folder and determines their type. Throws `body_too_large`, `file_type_not_allowed`,
 * `file_store_unavailable`, and `invalid_value` for no bytes and for a picture that cannot be opened or is too large; then
 * nothing stays.
 * @param types media types that are taken, `image/*` for a whole kind; null for any
 */
export async function receive(
  bytes: NodeJS.ReadableStream,
  folder: string,
  most: number,
  types: readonly string[] | null = null,
): Promise<Received> {
  await mkdir(folder, { recursive: true }).catch((error: unknown) => {
    throw storeFailure(error)
  })
  const file = path.join(folder, newId())
  const hash = createHash('sha256')
  let size = 0
  const text = new TextDetector()
  try {
    await pipeline(
      bytes,
      new Transform({
        transform(chunk: Buffer, _encoding, next) {
          size += chunk.length
          if (size > most) return next(failure('body_too_large', { at_most: most }))
          hash.update(chunk)
          text.add(chunk)
          next(null, chunk)
        },
      }),
      createWriteStream(file, { flags: 'wx' }),
    )
    if (size === 0) throw failure('invalid_value', { path: 'file', rule: 'not_empty', message: 'has no bytes' })
    const mediaType = await mediaTypeOf(file, text)
    if (types) assertAllowedType(mediaType, types)
    const { width = null, height = null } = PICTURES.includes(mediaType) ? await measured(file) : {}
    return { file, size, sha256: hash.digest('hex'), mediaType, width, height }
  } catch (error) {
    await rm(file, { force: true }).catch(() => {})
    throw isOfDisk(error) ? storeFailure(error) : error
  }
}

async function measured(file: string): Promise<{ width: number; height: number }> {
  const refuse = (rule: string, message: string) => failure('invalid_value', { path: 'file', rule, message })
  const { width, height } = await openPicture(file)
    .metadata()
    .catch((error: Error) => {
      throw /pixel limit/i.test(error.message)
        ? refuse('pixels', `has more than ${MOST_PIXELS} pixels`)
        : refuse('picture', 'is no whole picture')
    })
  if (width * height > MOST_PIXELS) throw refuse('pixels', `has more than ${MOST_PIXELS} pixels`)
  return { width, height }
}

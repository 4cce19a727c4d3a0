// Bytes that are encrypted in the store under the tenant's key: in chunks, so that a range is read without the rest.
import type { Readable } from 'node:stream'
import type { Secrets } from '../kernel/index.ts'
import type { ByteRange } from './store.ts'

/** Bytes of a chunk before encryption. */
const CHUNK = 64 * 1024
/** Bytes that encryption adds to a chunk: version, nonce and tag (see `kernel/cipher.ts`). */
const OVERHEAD = 29

/**
 * A chunk is bound to its file, its place and whether it is the last one: chunks cannot be moved, left out, or cut off at
 * the end.
 */
const purposeOf = (file: string, chunk: number, last: boolean): string => `file ${file} ${chunk}${last ? ' last' : ''}`

/** Encrypts a stream. An empty one stays empty. */
export async function* sealBytes(secrets: Secrets, file: string, bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let parts: Buffer[] = []
  let length = 0
  let chunk = 0
  for await (const part of bytes) {
    parts.push(part)
    length += part.length
    if (length <= CHUNK) continue // more must follow a chunk, because the last one says that it is
    let waiting = Buffer.concat(parts)
    for (; waiting.length > CHUNK; waiting = waiting.subarray(CHUNK))
      yield await secrets.seal(purposeOf(file, chunk++, false), waiting.subarray(0, CHUNK))
    parts = [waiting]
    length = waiting.length
  }
  if (length > 0) yield await secrets.seal(purposeOf(file, chunk, true), Buffer.concat(parts))
}

/** The size in the store of a file of `size` bytes. */
export const sealedSize = (size: number): number => size + Math.ceil(size / CHUNK) * OVERHEAD

/** The part of the store's file that holds a range of a file of `size` bytes. */
export function sealedRange({ start, end }: ByteRange, size: number): ByteRange {
  const first = Math.floor(start / CHUNK)
  const last = Math.floor(end / CHUNK)
  return { start: first * (CHUNK + OVERHEAD), end: Math.min((last + 1) * (CHUNK + OVERHEAD), sealedSize(size)) - 1 }
}

/** Decrypts the stored bytes of `sealedRange`. Throws where a bit of them differs. */
export async function* openBytes(
  secrets: Secrets,
  file: string,
  sealed: Readable,
  { start, end }: ByteRange,
  size: number,
): AsyncGenerator<Buffer> {
  const lastChunk = Math.ceil(size / CHUNK) - 1
  let chunk = Math.floor(start / CHUNK)
  let waiting = Buffer.alloc(0)
  const open = async (bytes: Buffer) => {
    const begin = chunk * CHUNK
    const plain = await secrets.open(purposeOf(file, chunk, chunk === lastChunk), bytes)
    chunk++
    return plain.subarray(Math.max(0, start - begin), Math.min(plain.length, end + 1 - begin))
  }
  try {
    for await (const part of sealed) {
      waiting = Buffer.concat([waiting, part as Buffer])
      for (; waiting.length >= CHUNK + OVERHEAD; waiting = waiting.subarray(CHUNK + OVERHEAD))
        yield await open(waiting.subarray(0, CHUNK + OVERHEAD))
    }
    if (waiting.length > 0) yield await open(waiting)
  } finally {
    sealed.destroy()
  }
}

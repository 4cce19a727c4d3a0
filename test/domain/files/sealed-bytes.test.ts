// Bytes that are encrypted in chunks: whole, in ranges, and never cut, moved or changed without notice.
import { randomBytes } from 'node:crypto'
import { Readable } from 'node:stream'
import { buffer } from 'node:stream/consumers'
import fc from 'fast-check'
import t from 'tap'
import { openBytes, sealBytes, sealedRange, sealedSize } from '../../../domain/files/sealed-bytes.ts'
import { decrypt, encrypt, type Secrets } from '../../../domain/kernel/index.ts'

const key = randomBytes(32)
const secrets: Secrets = {
  seal: async (purpose, plain) => encrypt(key, plain, purpose),
  open: async (purpose, sealed) => decrypt(key, sealed, purpose),
  blind: async () => Buffer.alloc(0),
}
const CHUNK = 64 * 1024
const STORED = CHUNK + 29
const seal = (file: string, plain: Buffer, part = 50_000) =>
  buffer(
    Readable.from(
      sealBytes(
        secrets,
        file,
        Readable.from(Array.from({ length: Math.ceil(plain.length / part) }, (_, n) => plain.subarray(n * part, (n + 1) * part))),
      ),
    ),
  )
const open = (file: string, sealed: Buffer, size: number, range = { start: 0, end: size - 1 }) => {
  const { start, end } = sealedRange(range, size)
  return buffer(Readable.from(openBytes(secrets, file, Readable.from([sealed.subarray(start, end + 1)]), range, size)))
}

t.test('any range of any size comes out as it went in', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.oneof(fc.integer({ min: 1, max: 3 * CHUNK }), fc.constantFrom(1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK)),
      fc.integer({ min: 1, max: 200_000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      async (size, part, a, b) => {
        const plain = randomBytes(size)
        const sealed = await seal('f', plain, part)
        const [start, end] = [a, b].map((share) => Math.min(size - 1, Math.floor(share * size))).sort((x, y) => x - y) as [number, number]
        const opened = await open('f', sealed, size, { start, end })
        return sealed.length === sealedSize(size) && opened.equals(plain.subarray(start, end + 1))
      },
    ),
    { numRuns: 60 },
  )
})

t.test('chunks that are moved, left out, cut off, changed or of another file are refused', async (t) => {
  const size = 3 * CHUNK
  const sealed = await seal('f', randomBytes(size))
  const chunk = (n: number) => sealed.subarray(n * STORED, (n + 1) * STORED)
  const changed = Buffer.from(sealed)
  changed[100]! ^= 1
  for (const [title, bytes, file, of] of [
    ['moved', Buffer.concat([chunk(1), chunk(0), chunk(2)]), 'f', size],
    ['left out', Buffer.concat([chunk(0), chunk(2)]), 'f', 2 * CHUNK],
    ['cut off', Buffer.concat([chunk(0), chunk(1)]), 'f', 2 * CHUNK],
    ['cut within a chunk', sealed.subarray(0, sealed.length - 5), 'f', size],
    ['changed', changed, 'f', size],
    ['of another file', sealed, 'g', size],
  ] as const)
    await t.rejects(open(file, bytes, of), title)
  t.equal((await open('f', sealed, size)).length, size)
})

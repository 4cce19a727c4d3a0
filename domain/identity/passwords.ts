import { hash, verify } from '@node-rs/argon2'
import { failure } from '../kernel/index.ts'

// OWASP's argon2id floor (19 MiB, two passes, one lane): 17 ms measured on a 2-core machine, in a libuv thread, off the event loop.
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }
/** Hashing occupies threads that files and DNS need too; beyond this queue it is better to say so than to make all wait. */
const MAX_QUEUED = 200
export const MAX_PASSWORD_BYTES = 1024

let queued = 0

async function bounded<T>(work: () => Promise<T>): Promise<T> {
  if (queued >= MAX_QUEUED) throw failure('overloaded')
  queued++
  try {
    return await work()
  } finally {
    queued--
  }
}

export const hashPassword = (password: string): Promise<string> => bounded(() => hash(password, PARAMETERS))

let decoy: Promise<string> | undefined

/** Compares with the hash, or with a decoy where there is none, so that an unknown user takes as long as a wrong password. */
export async function verifyPassword(stored: string | null, password: string): Promise<boolean> {
  decoy ??= hash('tenantry-decoy', PARAMETERS)
  const against = stored ?? (await decoy)
  const matches = await bounded(() => verify(against, password))
  return matches && stored !== null
}

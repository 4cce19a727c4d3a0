import { availableParallelism } from 'node:os'
import { hash, verify } from '@node-rs/argon2'
import { dictionary } from '@zxcvbn-ts/language-common'
import { failure } from '../kernel/index.ts'
import { Turnstile } from './turnstile.ts'

// OWASP's argon2id floor (19 MiB, two passes, one lane): 17 ms measured on a 2-core machine, in a libuv thread, off the event loop.
const PARAMETERS = { memoryCost: 19_456, timeCost: 2, parallelism: 1 }
/** One core is left to the requests that hash nothing. */
const hashing = new Turnstile(Math.max(1, availableParallelism() - 1), 200)
export const MAX_PASSWORD_BYTES = 1024
export const MIN_PASSWORD_LENGTH = 12

/** One spelling for what keyboards compose differently (NIST SP 800-63B, 5.1.1.2). */
const spelled = (password: string) => password.normalize('NFKC')

export const hashPassword = (password: string): Promise<string> => hashing.pass(() => hash(spelled(password), PARAMETERS))

let decoy: Promise<string> | undefined

/** Compares with the hash, or with a decoy where there is none, so that an unknown user takes as long as a wrong password. */
export async function verifyPassword(stored: string | null, password: string): Promise<boolean> {
  decoy ??= hash('tenantry-decoy', PARAMETERS)
  const against = stored ?? (await decoy)
  const matches = await hashing.pass(() => verify(against, spelled(password)))
  return matches && stored !== null
}

const common = new Set(dictionary['passwords-common'])

/**
 * Refuses with `weak_password` what is guessed first: too short, on the list of common passwords, one of those with
 * digits around it, a short unit repeated, or made of what everybody knows of the user. No rules of composition (NIST).
 */
export function checkPassword(password: string, known: readonly string[]): void {
  const refuse = (rule: string, message: string) => failure('weak_password', { path: '/password', rule, message })
  if ([...password].length < MIN_PASSWORD_LENGTH)
    throw refuse('min_length', `has ${MIN_PASSWORD_LENGTH} characters or more: a few words do`)
  const lower = spelled(password).toLowerCase()
  const core = lower.replace(/^[^\p{L}]+|[^\p{L}]+$/gu, '')
  if (common.has(lower) || common.has(core)) throw refuse('common', 'is not one of the common passwords, with or without digits around it')
  if (/^(.{1,4})\1+.?$/u.test(lower)) throw refuse('repetition', 'is not a short piece repeated')
  if (known.some((word) => word.length >= 4 && (lower === word.toLowerCase() || core === word.toLowerCase()))) {
    throw refuse('personal', 'is not your name, your address or your company')
  }
}

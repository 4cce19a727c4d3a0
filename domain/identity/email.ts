// One spelling an address, so that nobody can register a look-alike of someone else's.
import { domainToASCII } from 'node:url'
import { failure } from '../kernel/index.ts'

/**
 * Lower case; the domain in Punycode; the part before the @ in ASCII. Letters of other scripts are refused rather than
 * folded: folding lets `ａdmin@` ask for the password of `admin@`.
 */
export function canonicalEmail(email: string): string | null {
  const at = email.lastIndexOf('@')
  const local = email.slice(0, at).toLowerCase()
  const domain = domainToASCII(email.slice(at + 1).trim())
  if (at < 1 || !/^[!#-'*+\-/-9=?^-~a-z]+(\.[!#-'*+\-/-9=?^-~a-z]+)*$/.test(local.trim())) return null
  if (!/^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{2,63}$/.test(domain)) return null
  const canonical = `${local.trim()}@${domain}`
  return canonical.length <= 254 ? canonical : null
}

/** Throws `invalid_value` where the address cannot be one. */
export function requireEmail(email: string): string {
  const canonical = canonicalEmail(email)
  if (canonical) return canonical
  throw failure('invalid_value', { path: '/email', rule: 'email', message: 'is an address such as ana@example.com, in ASCII before the @' })
}

import type { IncomingMessage } from 'node:http'
import fp from 'fastify-plugin'
import { canonicalAddress, failure } from '../domain/kernel/index.ts'

/** A host name or an address literal, with an optional port. */
const HOST = /^([a-z0-9](?:[a-z0-9._-]{0,251}[a-z0-9])?|\[[0-9a-f:.]+\])(:\d{1,5})?$/

/** The one spelling of a Host header: lower case, without the root's dot. Null for a text that is no host. */
export function canonicalHost(text: string): string | null {
  const spelled = text
    .trim()
    .toLowerCase()
    .replace(/\.(?=:\d+$|$)/, '')
  return HOST.test(spelled) ? spelled : null
}

/**
 * The part of X-Forwarded-For that names addresses, each in its one spelling, read from its right end, where the nearest
 * proxy wrote; entries left of one that is no address are dropped, since no one vouches for them. Some proxies add ports.
 */
export function canonicalForwarded(header: string): string {
  const chain: string[] = []
  for (const entry of header.split(',').reverse()) {
    const text = entry.trim().replace(/^\[(.+)\](:\d+)?$/, '$1')
    const address = canonicalAddress(text) ?? canonicalAddress(text.replace(/:\d+$/, ''))
    if (address === null) break
    chain.unshift(address)
  }
  return chain.join(', ')
}

const refuse = (message: string) => failure('invalid_headers', { errors: [{ path: '/host', rule: 'host', message }] })

/** How many Host headers came. Node keeps the first and drops the others without a word. */
function hostsIn({ rawHeaders }: IncomingMessage): number {
  let count = 0
  for (let index = 0; index < rawHeaders.length; index += 2) if (rawHeaders[index]!.toLowerCase() === 'host') count++
  return count
}

/** Whether a request target in absolute form (`GET http://acme.example/…`) names the host of the header. */
function namesHost(target: string, host: string): boolean {
  if (target.startsWith('/') || target === '*') return true
  try {
    return canonicalHost(new URL(target).host) === host.replace(/:80$/, '')
  } catch {
    return false
  }
}

/**
 * Makes the Host header the only name of the tenant, in one spelling: every later reader of `request.host` and
 * `request.hostname` (tenant, buckets, cookies, origins, passkeys) gets the same text for the same host. X-Forwarded-Host
 * is dropped from every sender, because a proxy that passes a client's own on would let the client choose the tenant.
 * Runs before every other hook. Refuses with `invalid_headers`.
 */
export default fp(
  async (app) => {
    app.addHook('onRequest', (request, _reply, done) => {
      const { headers, url } = request.raw
      delete headers['x-forwarded-host']
      const forwarded = headers['x-forwarded-for']
      if (forwarded !== undefined) {
        const chain = canonicalForwarded(String(forwarded))
        if (chain === '') delete headers['x-forwarded-for']
        else headers['x-forwarded-for'] = chain
      }
      if (headers.host === undefined) {
        if (request.raw.httpVersion === '1.1') throw refuse('is missing')
        // HTTP/1.0 has none: probes by it are answered, and a tenant is not found.
        return done()
      }
      const host = canonicalHost(headers.host)
      if (host === null) throw refuse('is not a host name')
      if (hostsIn(request.raw) > 1) throw refuse('is given more than once')
      if (!namesHost(url ?? '/', host)) throw refuse('differs from the host of the request line')
      headers.host = host
      done()
    })
  },
  { name: 'host', dependencies: ['errors'] },
)

// The proxies whose X-Forwarded-For counts.
import { isIP } from 'node:net'

/** Proxies in front of us at most. */
const MAX_HOPS = 16

/** As Fastify's `trustProxy` takes it. */
export type TrustedProxies = false | string[] | ((address: string, hop: number) => boolean)

function isNetwork(text: string): boolean {
  const [address = '', bits, ...rest] = text.split('/')
  const family = isIP(address)
  if (family === 0 || rest.length > 0) return false
  return bits === undefined || (/^\d{1,3}$/.test(bits) && Number(bits) <= (family === 4 ? 32 : 128))
}

/**
 * Reads TRUSTED_PROXIES: `none`, a number of hops, or addresses and networks, comma-separated. Null for anything else.
 * A number of hops believes that many of the nearest entries of the chain: it is safe only where nothing
 * but the proxies reaches the port.
 */
export function trustedProxies(text: string): TrustedProxies | null {
  if (text === 'none') return false
  if (/^\d{1,2}$/.test(text)) {
    const hops = Number(text)
    return hops >= 1 && hops <= MAX_HOPS ? (_address, hop) => hop < hops : null
  }
  const networks = text.split(',').map((part) => part.trim())
  return networks.every(isNetwork) ? networks : null
}

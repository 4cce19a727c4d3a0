// Requests to addresses that tenants write: never into our own network.
import { lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { Agent, fetch as undiciFetch } from 'undici'

/** What belongs to no one on the internet (IANA's special-purpose registries). */
const inside = new BlockList()
for (const [network, bits] of [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.168.0.0', 16],
  ['198.18.0.0', 15],
  ['224.0.0.0', 3],
] as const)
  inside.addSubnet(network, bits, 'ipv4')
for (const [network, bits] of [
  ['::', 127],
  ['64:ff9b::', 96],
  ['fc00::', 7],
  ['fe80::', 10],
  ['ff00::', 8],
] as const)
  inside.addSubnet(network, bits, 'ipv6')

export function isInside(address: string): boolean {
  const mapped = address.match(/^::ffff:(\d+\.\d+\.\d+\.\d+)$/i)?.[1]
  if (mapped) return isInside(mapped)
  return isIP(address) === 0 || inside.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4')
}

/** Looks a name up and keeps only addresses outside: asked at connecting, so that a second answer of the name server changes nothing. */
const lookupOutside: LookupFunction = (hostname, options, done) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error) return done(error, '', 4)
    const outside = addresses.filter(({ address }) => !isInside(address))
    const [first] = outside
    if (!first) return done(new Error(`${hostname} leads into our own network`), '', 4)
    return options.all ? done(null, outside) : done(null, first.address, first.family)
  })
}

/** `fetch` for what tenants write. In development, where everything is on one machine, it goes anywhere. */
export function outboundFetch(development: boolean): typeof fetch {
  const dispatcher = new Agent(development ? {} : { connect: { lookup: lookupOutside } })
  const guarded = async (url: string | URL, init: object = {}) => {
    const { hostname } = new URL(url)
    const literal = hostname.replace(/^\[|\]$/g, '')
    // An address written out is not looked up.
    if (!development && isIP(literal) && isInside(literal)) throw new TypeError(`${hostname} leads into our own network`)
    return undiciFetch(url, { ...init, dispatcher, redirect: 'manual' })
  }
  return guarded as unknown as typeof fetch
}

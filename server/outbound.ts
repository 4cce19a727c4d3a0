// Requests to addresses that tenants write: never into our own network.
import { lookup } from 'node:dns'
import { BlockList, isIP, type LookupFunction } from 'node:net'
import { Agent, fetch as undiciFetch } from 'undici'
import { canonicalAddress } from '../domain/kernel/index.ts'

/** Special-purpose blocks of IPv4 (https://www.iana.org/assignments/iana-ipv4-special-registry), multicast and class E. */
const IPV4 = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 3],
] as const

/** Special-purpose blocks within IPv6's global unicast space: Teredo and protocol assignments, documentation, 6to4, AS112. */
const IPV6 = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['2620:4f:8000::', 48],
  ['3fff::', 20],
] as const

const inside = new BlockList()
for (const [network, bits] of IPV4) inside.addSubnet(network, bits, 'ipv4')
for (const [network, bits] of IPV6) inside.addSubnet(network, bits, 'ipv6')

/**
 * Everything of IPv6 that is routed on the internet. Whatever is outside of it is ours or leads back to us: loopback,
 * `::/96` and `64:ff9b::/96` with an IPv4 address inside, `64:ff9b:1::/48`, `fc00::/7`, `fe80::/10`, `fec0::/10`, multicast.
 */
const global = new BlockList()
global.addSubnet('2000::', 3, 'ipv6')

/** Whether an address belongs to no one on the internet, or is none. */
export function isInside(text: string): boolean {
  const address = canonicalAddress(text)
  if (address === null || text.includes('%')) return true
  if (isIP(address) === 4) return inside.check(address, 'ipv4')
  return !global.check(address, 'ipv6') || inside.check(address, 'ipv6')
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

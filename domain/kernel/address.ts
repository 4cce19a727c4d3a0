// Network addresses as they are counted: one client is one IPv4 address, or one IPv6 network of 64 bits.
import { isIP, isIPv6 } from 'node:net'

/** The eight groups of an IPv6 address, as numbers; a dotted tail (`::ffff:192.0.2.1`) counts as two groups. */
function groupsOf(address: string): number[] {
  const dotted = address.match(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/)
  const hex = dotted
    ? address.slice(0, dotted.index) +
      [(Number(dotted[1]) << 8) | Number(dotted[2]), (Number(dotted[3]) << 8) | Number(dotted[4])].map((n) => n.toString(16)).join(':')
    : address
  const [head = '', tail] = hex.split('::')
  const parse = (part: string) => (part === '' ? [] : part.split(':').map((group) => Number.parseInt(group, 16)))
  const [first, last] = [parse(head), tail === undefined ? [] : parse(tail)]
  return [...first, ...Array<number>(8 - first.length - last.length).fill(0), ...last]
}

/**
 * An address in its one spelling, or null for a text that is none. An IPv4 address inside of IPv6 (`::ffff:192.0.2.1`) is
 * the IPv4 address; a zone (`%eth0`) is dropped.
 */
export function canonicalAddress(text: string): string | null {
  const address = text.replace(/%.*$/, '')
  if (isIP(address) === 4) return address
  if (!isIPv6(address)) return null
  const groups = groupsOf(address)
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return [groups[6]! >> 8, groups[6]! & 255, groups[7]! >> 8, groups[7]! & 255].join('.')
  }
  return groups.map((group) => group.toString(16)).join(':')
}

/**
 * The network that an address is counted as: the address itself for IPv4, its first 64 bits for IPv6, because one
 * subscriber has 2^64 of those. In the form that PostgreSQL reads as `cidr`. What is no address stays as it is.
 */
export function networkOf(address: string): string {
  const canonical = canonicalAddress(address)
  if (canonical === null || !canonical.includes(':')) return canonical ?? address
  return `${canonical.split(':').slice(0, 4).join(':')}::/64`
}

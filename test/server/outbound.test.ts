import t from 'tap'
import { canonicalAddress, networkOf } from '../../domain/kernel/index.ts'
import { isInside, outboundFetch } from '../../server/outbound.ts'

t.test('F28: no special-purpose address is reached for a tenant, in any of its spellings', async (t) => {
  for (const address of [
    ['127.0.0.1', '127.255.255.254', '10.1.2.3', '172.31.0.1', '192.168.0.1', '169.254.169.254', '100.64.0.1', '0.0.0.0'],
    ['192.0.0.1', '192.0.2.1', '198.18.0.1', '198.51.100.1', '203.0.113.1', '192.88.99.1', '224.0.0.1', '240.0.0.1', '255.255.255.255'],
    ['::', '::1', '::127.0.0.1', '::7f00:1', '::ffff:10.0.0.1', '::ffff:a00:1', '0:0:0:0:0:ffff:127.0.0.1', '::ffff:0:127.0.0.1'],
    ['64:ff9b::7f00:1', '64:ff9b::10.0.0.1', '64:ff9b:1::1', '2002:7f00:1::', '2001::1', '2001:db8::1', '3fff::1', '5f00::1', '100::1'],
    ['fc00::1', 'fd12:3456::1', 'fe80::1', 'fe80::1%eth0', 'fec0::1', 'ff02::1', '4000::1', 'not an address', '127.1', '0x7f.0.0.1', ''],
  ].flat())
    t.ok(isInside(address), address)
  for (const address of ['1.1.1.1', '193.0.6.139', '2606:4700:4700::1111', '2001:67c:2e8:22::c100:68b', '::ffff:1.1.1.1', '2a00:1450::1'])
    t.notOk(isInside(address), address)
  const guarded = outboundFetch(false)
  for (const url of [
    'http://127.0.0.1/',
    'http://[::1]/',
    'http://2130706433/',
    'http://0x7f000001/',
    'http://[::ffff:7f00:1]/',
    'http://localhost/',
    'http://[fec0::1]/',
    'http://[2002:7f00:1::]/',
  ])
    await t.rejects(guarded(url), url)
})

t.test('F27: an IPv6 address is counted as its network of 64 bits, in any spelling', async (t) => {
  for (const [address, network] of [
    ['192.0.2.1', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::FFFF:C000:0201', '192.0.2.1'],
    ['2001:db8:1:1::1', '2001:db8:1:1::/64'],
    ['2001:0DB8:0001:0001:ffff:ffff:ffff:ffff', '2001:db8:1:1::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['', ''],
  ] as const)
    t.equal(networkOf(address), network, address)
  t.equal(canonicalAddress('1:2:3:4:5:6:7::'), '1:2:3:4:5:6:7:0')
  t.equal(canonicalAddress('::1.2.3.4'), '0:0:0:0:0:0:102:304')
  t.equal(canonicalAddress('1.2.3'), null)
})

// The keys that access tokens are signed with, by `kid`: those of JWT_KEYS, and those that were rotated in since.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { Type } from 'typebox'
import { type Database, failure, type Listener, nullable, type Queries, sql, Timestamp } from '../kernel/index.ts'

/** How long a key is published before it signs: longer than anyone may cache the key set. */
const ANNOUNCED_MINUTES = 10
/** A key that no longer signs verifies for this long: longer than a token lives. */
const OVERLAP_MS = 3_600_000
const PURPOSE = 'platform_signing_keys.wrapped_key'

interface SigningKey {
  kid: string
  privateKey: KeyObject
  privatePem: string
  publicPem: string
  jwk: object
  /** Signs from here on, in milliseconds since 1970. */
  activatesAt: number
}

/** Seals and opens what must not be read from a stolen database. */
interface Wrapper {
  wrap(purpose: string, plain: string): Buffer
  unwrap(purpose: string, sealed: Buffer): Buffer
}

const Stored = Type.Object(
  { kid: Type.String(), sealed: nullable(Type.String()), activates_at: nullable(Timestamp), revoked: Type.Boolean() },
  { additionalProperties: false },
)

function describe(key: KeyObject, activatesAt: number): SigningKey {
  const publicKey = createPublicKey(key)
  const jwk = publicKey.export({ format: 'jwk' })
  // RFC 7638: the thumbprint of the required members in lexical order.
  const kid = createHash('sha256')
    .update(JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n }))
    .digest('base64url')
  return {
    kid,
    privateKey: key,
    privatePem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    jwk: { ...jwk, kid, use: 'sig', alg: 'RS256' },
    activatesAt,
  }
}

/** The `kid` of a private key in PEM. */
export const kidOf = (pem: string): string => describe(createPrivateKey(pem), 0).kid

/** A new RSA key of 2048 bits as PEM. */
export const newSigningKey = (): string =>
  generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

/**
 * The key ring of a process. The newest key that is active signs; a key is published before it signs and verifies for an
 * hour after; a revoked one verifies nothing from the moment the database announces it.
 */
export class SigningKeys {
  readonly #configured: readonly SigningKey[]
  readonly #control: Database
  readonly #wrapper: Wrapper
  readonly #onChange: (() => void)[] = []
  #rotated: SigningKey[] = []
  #revoked = new Set<string>()
  #loading: Promise<void> = Promise.resolve()

  /** @param pems private keys, newest first */
  constructor(pems: readonly string[], control: Database, listener: Listener, wrapper: Wrapper) {
    if (pems.length === 0) throw new TypeError('at least one signing key is needed')
    this.#configured = pems.map((pem) => describe(createPrivateKey(pem), 0))
    this.#control = control
    this.#wrapper = wrapper
    listener.on('tenantry_signing_keys', () => void this.load().catch(() => {}))
    listener.onReconnect(() => void this.load().catch(() => {}))
  }

  /** Runs after the set changed: what was verified before must be verified again. */
  onChange(changed: () => void): void {
    this.#onChange.push(changed)
  }

  /** Reads what was rotated in and what was revoked; one reading after the other, so that the last one wins. */
  load(): Promise<void> {
    this.#loading = this.#loading.catch(() => {}).then(() => this.#read())
    return this.#loading
  }

  async #read(): Promise<void> {
    const rows = await this.#control.platform((queries) =>
      queries.any(sql.prepared(Stored)`
      select kid, encode(wrapped_key, 'hex') as sealed, activates_at, revoked_at is not null as revoked from platform_signing_keys order by activates_at desc`),
    )
    this.#revoked = new Set(rows.filter((row) => row.revoked).map((row) => row.kid))
    this.#rotated = rows.flatMap(({ sealed, activates_at, revoked }) =>
      sealed && !revoked
        ? [describe(createPrivateKey(this.#wrapper.unwrap(PURPOSE, Buffer.from(sealed, 'hex')).toString()), Date.parse(activates_at!))]
        : [],
    )
    for (const changed of this.#onChange) changed()
  }

  /** Those that verify, the newest first. */
  #valid(now: number): SigningKey[] {
    const rotated = this.#rotated.filter((_, at) => {
      const successor = this.#rotated[at - 1]
      return !successor || successor.activatesAt > now - OVERLAP_MS
    })
    return [...rotated, ...this.#configured].filter((key) => !this.#revoked.has(key.kid))
  }

  /** Signs new tokens. */
  get current(): SigningKey {
    const now = Date.now()
    const key = this.#valid(now).find((key) => key.activatesAt <= now)
    if (!key) throw failure('internal')
    return key
  }

  /** The public key of a `kid` that is still accepted. */
  publicPem(kid: string): string | undefined {
    return this.#valid(Date.now()).find((key) => key.kid === kid)?.publicPem
  }

  /** RFC 7517. */
  get jwks(): { keys: object[] } {
    return { keys: this.#valid(Date.now()).map((key) => key.jwk) }
  }
}

/**
 * Rotates a new key in: it is published now and signs in ten minutes. In an emergency it signs now, and every other key
 * is revoked: access tokens end at the next request, sessions go on with the next refresh. Needs the owner's rights.
 */
export async function rotateSigningKeys(queries: Queries, wrapper: Wrapper, now: Date, revoked: readonly string[] | null): Promise<string> {
  const pem = newSigningKey()
  const { kid, jwk } = describe(createPrivateKey(pem), 0)
  const activates = new Date(now.getTime() + (revoked ? 0 : ANNOUNCED_MINUTES * 60_000)).toISOString()
  if (revoked) {
    await queries.query(sql.run`
      insert into platform_signing_keys (kid, revoked_at) select k, ${now.toISOString()} from unnest(${sql.array([...revoked], 'text')}) as k
      on conflict (kid) do update set revoked_at = coalesce(platform_signing_keys.revoked_at, excluded.revoked_at), wrapped_key = null`)
  }
  await queries.query(sql.run`
    insert into platform_signing_keys (kid, wrapped_key, public_jwk, activates_at)
    values (${kid}, decode(${wrapper.wrap(PURPOSE, pem).toString('hex')}, 'hex'), ${sql.jsonb(jwk as never)}, ${activates})`)
  return kid
}

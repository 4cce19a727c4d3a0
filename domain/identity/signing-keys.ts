// The keys that access tokens are signed with, by `kid`.
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'

interface SigningKey {
  kid: string
  privatePem: string
  publicPem: string
  jwk: object
}

export interface SigningKeys {
  /** Signs new tokens. */
  current: SigningKey
  /** The public key of a `kid` that is still accepted. */
  publicPem(kid: string): string | undefined
  /** RFC 7517. */
  jwks: { keys: object[] }
}

function describe(key: KeyObject): SigningKey {
  const publicKey = createPublicKey(key)
  const jwk = publicKey.export({ format: 'jwk' })
  // RFC 7638: the thumbprint of the required members in lexical order.
  const kid = createHash('sha256')
    .update(JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n }))
    .digest('base64url')
  return {
    kid,
    privatePem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    publicPem: publicKey.export({ type: 'spki', format: 'pem' }).toString(),
    jwk: { ...jwk, kid, use: 'sig', alg: 'RS256' },
  }
}

/** From PEM private keys, newest first: the first signs, all verify. */
export function signingKeys(pems: readonly string[]): SigningKeys {
  const keys = pems.map((pem) => describe(createPrivateKey(pem)))
  const byKid = new Map(keys.map((key) => [key.kid, key]))
  const [current] = keys
  if (!current) throw new TypeError('at least one signing key is needed')
  return { current, publicPem: (kid) => byKid.get(kid)?.publicPem, jwks: { keys: keys.map((key) => key.jwk) } }
}

/** A new RSA key of 2048 bits as PEM. */
export const newSigningKey = (): string =>
  generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey.export({ type: 'pkcs8', format: 'pem' }).toString()

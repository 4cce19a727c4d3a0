export { hashPassword, MAX_PASSWORD_BYTES } from './passwords.ts'
export * from './sessions.ts'
export { newSigningKey, type SigningKeys, signingKeys } from './signing-keys.ts'
export { createUser, disableUser, hashed, type NewUser } from './users.ts'

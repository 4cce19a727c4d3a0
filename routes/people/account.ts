// One's own account: the links in mails, the password, the address, the profile.
import type { FastifyInstance } from 'fastify'
import { type Static, Type } from 'typebox'
import {
  acceptInvitation,
  changeEmail,
  changePassword,
  checkLink,
  checkNewPassword,
  forgotPassword,
  hashPassword,
  LOCALES,
  MAX_PASSWORD_BYTES,
  resetPassword,
  User,
  updateUser,
  verifyEmail,
} from '../../domain/identity/index.ts'
import { Name, nullable, oneOf, TimeZone } from '../../domain/kernel/index.ts'
import { mutation, ok, open } from '../http/envelope.ts'
import { checkOwnPassword } from '../http/proof.ts'
import { clientOf, enter, noSso, Signed, TokenQuery } from '../http/session-reply.ts'

const Password = Type.String({ minLength: 1, maxLength: MAX_PASSWORD_BYTES, description: 'Twelve characters or more; a few words do' })
const Token = Type.String({ minLength: 20, maxLength: 100, description: 'From the link in the mail' })
const Email = Type.String({ minLength: 3, maxLength: 254, examples: ['ana@example.com'] })
const Accept = Type.Object(
  { token: Token, password: Password, name: Type.Optional(Name), locale: Type.Optional(oneOf(LOCALES)) },
  { additionalProperties: false },
)
const Forgot = Type.Object({ email: Email }, { additionalProperties: false })
const Reset = Type.Object({ token: Token, password: Password }, { additionalProperties: false })
const Change = Type.Object({ current_password: Password, password: Password }, { additionalProperties: false })
const NewEmail = Type.Object({ email: Email, password: Password }, { additionalProperties: false })
const Verify = Type.Object({ token: Token }, { additionalProperties: false })
const Profile = Type.Object(
  { name: Type.Optional(Name), locale: Type.Optional(nullable(oneOf(LOCALES))), timezone: Type.Optional(nullable(TimeZone)) },
  { additionalProperties: false },
)

export default async function account(app: FastifyInstance) {
  const { mailIntervalSeconds } = app.services.settings
  const tags = ['auth']
  const byLink = { public: true, authLimit: true, allowReadOnly: true, plane: 'control' } as const
  const own = { authenticated: true, sessionOnly: true, allowReadOnly: true, plane: 'control' } as const

  app.post<{ Body: Static<typeof Accept> }>(
    '/auth/invitations/accept',
    {
      ...byLink,
      schema: {
        tags,
        summary: 'Take up an invitation: choose a password, and be signed in',
        querystring: TokenQuery,
        body: Accept,
        response: { 200: Signed, ...open('invalid_link', 'weak_password', 'sso_required', 'blocked', 'invalid_query') },
      },
    },
    async (request, reply) => {
      const { token, password, ...changes } = request.body
      await request.read((tx) => checkLink(tx, 'invitation', token, password, request.tenant.slug))
      const hash = await hashPassword(password)
      const accepted = await request.write((tx) => acceptInvitation(tx, token, hash, changes))
      return enter(app, request, reply, accepted, ['pwd'], clientOf(request, reply), noSso(accepted))
    },
  )

  app.post<{ Body: Static<typeof Forgot> }>(
    '/auth/password/forgot',
    {
      ...byLink,
      schema: {
        tags,
        summary: 'Ask for a link to choose a new password; the answer is the same whether there is such an account or not',
        body: Forgot,
        response: { 202: ok(Type.Object({ sent: Type.Literal(true) })), ...open('sso_required') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => forgotPassword(tx, request.body.email, mailIntervalSeconds))
      reply.status(202)
      return { data: { sent: true as const } }
    },
  )

  app.post<{ Body: Static<typeof Reset> }>(
    '/auth/password/reset',
    {
      ...byLink,
      schema: {
        tags,
        summary: 'Choose a new password by link; all sessions end',
        body: Reset,
        response: { 204: Type.Null(), ...open('invalid_link', 'weak_password', 'sso_required') },
      },
    },
    async (request, reply) => {
      const { token, password } = request.body
      await request.read((tx) => checkLink(tx, 'password_reset', token, password, request.tenant.slug))
      const hash = await hashPassword(password)
      await request.write((tx) => resetPassword(tx, token, hash))
      return reply.status(204).send()
    },
  )

  app.post<{ Body: Static<typeof Change> }>(
    '/auth/password/change',
    {
      ...own,
      schema: {
        tags,
        summary: 'Change my password; my other sessions end',
        body: Change,
        response: { 204: Type.Null(), ...mutation('invalid_credentials', 'weak_password', 'session_required') },
      },
    },
    async (request, reply) => {
      await checkOwnPassword(request, request.body.current_password)
      const { current_password, password } = request.body
      await request.read((tx) => checkNewPassword(tx, request.actor.userId!, password, request.tenant.slug, current_password))
      const hash = await hashPassword(password)
      await request.write((tx) => changePassword(tx, hash))
      return reply.status(204).send()
    },
  )

  app.post<{ Body: Static<typeof NewEmail> }>(
    '/auth/email/change',
    {
      ...own,
      schema: {
        tags,
        summary: 'Use another address: a link is sent to it, and the old one stays until that is followed',
        body: NewEmail,
        response: {
          202: ok(Type.Object({ sent: Type.Literal(true) })),
          ...mutation('invalid_credentials', 'session_required', 'sso_required'),
        },
      },
    },
    async (request, reply) => {
      await checkOwnPassword(request, request.body.password)
      await request.write((tx) => changeEmail(tx, request.body.email, mailIntervalSeconds))
      reply.status(202)
      return { data: { sent: true as const } }
    },
  )

  app.post<{ Body: Static<typeof Verify> }>(
    '/auth/email/verify',
    {
      ...byLink,
      schema: {
        tags,
        summary: 'Confirm a new address by link',
        body: Verify,
        response: { 204: Type.Null(), ...open('invalid_link', 'already_exists', 'sso_required', 'last_administrator') },
      },
    },
    async (request, reply) => {
      await request.write((tx) => verifyEmail(tx, request.body.token))
      return reply.status(204).send()
    },
  )

  app.patch<{ Body: Static<typeof Profile> }>(
    '/auth/me',
    {
      ...own,
      schema: {
        tags,
        summary: 'Change my name, language or time zone',
        body: Profile,
        response: { 200: ok(User.schema), ...mutation('session_required') },
      },
    },
    async (request) => ({ data: await request.write((tx) => updateUser(tx, request.actor.userId!, null, request.body as object)) }),
  )
}

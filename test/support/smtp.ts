// A real SMTP server for the tests. What it takes is laid into a folder by recipient, so that every test process can read it.
import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import PostalMime from 'postal-mime'
import { SMTPServer } from 'smtp-server'
import { newId } from '../../domain/kernel/index.ts'
import { eventually } from './app.ts'
import { testServices } from './services.ts'

export interface ReceivedMail {
  to: string
  from: string
  subject: string
  text: string
  html: string
}

/** Refuses for a while whoever's address begins with `away-<n>-`: the first n tries get 451, as from a server that is busy. */
export async function openSmtpServer(folder: string): Promise<{ url: string; folder: string; close(): Promise<void> }> {
  mkdirSync(folder, { recursive: true })
  const refused = new Map<string, number>()
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ['STARTTLS'],
    onRcptTo({ address }, _session, done) {
      const times = Number(address.match(/^away-(\d+)-/)?.[1] ?? 0)
      const sofar = refused.get(address) ?? 0
      refused.set(address, sofar + 1)
      done(sofar < times ? Object.assign(new Error('busy, try again later'), { responseCode: 451 }) : null)
    },
    onData(stream, session, done) {
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      stream.on('end', async () => {
        const { subject = '', text = '', html = '', from } = await PostalMime.parse(Buffer.concat(chunks))
        for (const { address } of session.envelope.rcptTo) {
          const file = path.join(folder, `${newId()}.json`)
          writeFileSync(`${file}.part`, JSON.stringify({ to: address, from: from?.address, subject, text, html }))
          renameSync(`${file}.part`, file)
        }
        done()
      })
    },
  })
  server.on('error', () => {})
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.server.address() as { port: number }
  return { url: `smtp://127.0.0.1:${port}`, folder, close: () => new Promise((resolve) => server.close(() => resolve())) }
}

/** The mails that somebody got so far, oldest first. */
export function mailsTo(address: string): ReceivedMail[] {
  const { folder } = testServices().smtp
  return readdirSync(folder)
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => JSON.parse(readFileSync(path.join(folder, name), 'utf8')) as ReceivedMail)
    .filter((mail) => mail.to === address)
}

/** Waits for the n-th mail to somebody. */
export async function mailTo(address: string, n = 1): Promise<ReceivedMail> {
  return (await eventually(
    async () => mailsTo(address)[n - 1],
    (mail) => mail !== undefined,
  ))!
}

/** The token in a mail's link. */
export const tokenIn = ({ text }: ReceivedMail): string => {
  const token = text.match(/token=([A-Za-z0-9_-]+)/)?.[1]
  if (!token) throw new Error(`no link in: ${text}`)
  return token
}

// Which store keeps files, and who looks at them first.
import { randomUUID } from 'node:crypto'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { clamd, FileKeeper, FolderStore, S3Store } from '../domain/files/index.ts'
import type { Secrets } from '../domain/kernel/index.ts'
import { type Config, ConfigError } from './config.ts'

/** A folder that does not take a file in this time (a mount that hangs) cannot be written. */
const WRITE_MS = 5_000

function foldersOf(config: Config): { folder: string; incoming: string } {
  const { FILES_DIRECTORY: folder = path.join(tmpdir(), 'tenantry-files'), FILES_S3_BUCKET: bucket } = config
  return {
    folder,
    incoming: config.FILES_INCOMING ?? (bucket ? path.join(tmpdir(), 'tenantry-incoming') : path.join(folder, 'incoming')),
  }
}

async function writeProbe(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  const probe = path.join(folder, `.probe-${randomUUID()}`)
  await writeFile(probe, '')
  await rm(probe)
}

/** Why files cannot be stored: a sentence for each variable whose folder cannot be written. Makes folders that are missing. */
export async function folderProblems(config: Config): Promise<string[]> {
  const { folder, incoming } = foldersOf(config)
  const wanted = [
    ...(config.FILES_S3_BUCKET ? [] : [['FILES_DIRECTORY', folder] as const]),
    [config.FILES_INCOMING || config.FILES_S3_BUCKET ? 'FILES_INCOMING' : 'FILES_DIRECTORY', incoming] as const,
  ]
  const problems = new Map<string, string>()
  for (const [variable, place] of wanted) {
    if (problems.has(variable)) continue
    let timer: NodeJS.Timeout | undefined
    // Node's recursive mkdir never settles where a file system denies having the parent, as /proc does.
    const silence = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`${place} does not answer`)), WRITE_MS)
    })
    await Promise.race([writeProbe(place), silence])
      .catch((error: Error) => problems.set(variable, `${variable}: cannot be written: ${error.message}`))
      .finally(() => clearTimeout(timer))
  }
  return [...problems.values()]
}

/** The keeper of files that the configuration asks for. */
export function keeperOf(config: Config, secretsOf: (tenantId: string) => Secrets): FileKeeper {
  const { FILES_S3_BUCKET: bucket } = config
  const { folder, incoming } = foldersOf(config)
  const scan = config.CLAMD_ADDRESS ? clamd(config.CLAMD_ADDRESS, config.CLAMD_TIMEOUT_MS) : null
  return new FileKeeper({
    store: bucket ? bucketOf(config, bucket) : new FolderStore(folder),
    scan,
    incoming,
    secretsOf,
    mostBytes: config.FILES_MAX_BYTES,
    ...(config.FILES_TYPES ? { types: config.FILES_TYPES.split(',') } : {}),
  })
}

function bucketOf(config: Config, bucket: string): S3Store {
  const {
    FILES_S3_ENDPOINT: endpoint,
    FILES_S3_REGION: region,
    FILES_S3_ACCESS_KEY: accessKeyId,
    FILES_S3_SECRET_KEY: secretAccessKey,
  } = config
  if (!accessKeyId || !secretAccessKey) throw new ConfigError('FILES_S3_BUCKET: needs FILES_S3_ACCESS_KEY and FILES_S3_SECRET_KEY')
  return new S3Store({ endpoint, region, bucket, accessKeyId, secretAccessKey })
}

// Which store keeps files, and who looks at them first.
import { tmpdir } from 'node:os'
import path from 'node:path'
import { clamd, FileKeeper, FolderStore, S3Store } from '../domain/files/index.ts'
import type { Secrets } from '../domain/kernel/index.ts'
import { type Config, ConfigError } from './config.ts'

/** The keeper of files that the configuration asks for. */
export function keeperOf(config: Config, secretsOf: (tenantId: string) => Secrets): FileKeeper {
  const { FILES_DIRECTORY: folder = path.join(tmpdir(), 'tenantry-files'), FILES_S3_BUCKET: bucket } = config
  const incoming = config.FILES_INCOMING ?? (bucket ? path.join(tmpdir(), 'tenantry-incoming') : path.join(folder, 'incoming'))
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

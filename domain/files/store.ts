// Where bytes lie: a folder, or a store that speaks S3. Who keeps files knows this much of either.
import { createReadStream } from 'node:fs'
import { copyFile, mkdir, open, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import type { Readable } from 'node:stream'
import { DeleteObjectCommand, GetObjectCommand, NoSuchKey, NotFound, PutObjectCommand, S3Client } from '@aws-sdk/client-s3'

/** The bytes from `start` to `end`, both included. */
export interface ByteRange {
  start: number
  end: number
}

export interface FileStore {
  /** Takes a file of the local disk, whole or not at all. The file is gone afterwards. */
  put(key: string, file: string, about: { size: number; mediaType: string }): Promise<void>
  /** Null where there is nothing. */
  get(key: string, range?: ByteRange): Promise<Readable | null>
  remove(key: string): Promise<void>
}

/** A folder. What is put there is there whole, because it is renamed into its place. */
export class FolderStore implements FileStore {
  readonly #folder: string

  constructor(folder: string) {
    this.#folder = folder
  }

  // Keys are made of ids alone.
  #path = (key: string) => path.join(this.#folder, key)

  async put(key: string, file: string): Promise<void> {
    const place = this.#path(key)
    await mkdir(path.dirname(place), { recursive: true })
    await rename(file, place).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'EXDEV') throw error
      // On another disk: copied beside its place first.
      await copyFile(file, `${place}.part`)
      await rename(`${place}.part`, place)
      await rm(file)
    })
  }

  async get(key: string, range?: ByteRange): Promise<Readable | null> {
    // Opened before it is answered: what is removed from now on is still read to its end.
    const handle = await open(this.#path(key)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return null
      throw error
    })
    return handle ? handle.createReadStream(range ?? {}) : null
  }

  remove = (key: string) => rm(this.#path(key), { force: true })
}

export interface S3Options {
  endpoint: string | undefined
  region: string
  bucket: string
  accessKeyId: string
  secretAccessKey: string
}

/** A bucket of a store that speaks the S3 protocol. */
export class S3Store implements FileStore {
  readonly #client: S3Client
  readonly #bucket: string

  constructor({ endpoint, region, bucket, accessKeyId, secretAccessKey }: S3Options) {
    this.#bucket = bucket
    this.#client = new S3Client({
      region,
      ...(endpoint ? { endpoint, forcePathStyle: true } : {}),
      credentials: { accessKeyId, secretAccessKey },
      // Stores other than Amazon's do not all know the newer checksums; the length and the signature hold the bytes.
      requestChecksumCalculation: 'WHEN_REQUIRED',
      responseChecksumValidation: 'WHEN_REQUIRED',
    })
  }

  async put(key: string, file: string, { size, mediaType }: { size: number; mediaType: string }): Promise<void> {
    await this.#client.send(
      new PutObjectCommand({ Bucket: this.#bucket, Key: key, Body: createReadStream(file), ContentLength: size, ContentType: mediaType }),
    )
    await rm(file)
  }

  async get(key: string, range?: ByteRange): Promise<Readable | null> {
    try {
      const { Body } = await this.#client.send(
        new GetObjectCommand({ Bucket: this.#bucket, Key: key, ...(range ? { Range: `bytes=${range.start}-${range.end}` } : {}) }),
      )
      return Body as Readable
    } catch (error) {
      if (error instanceof NoSuchKey || error instanceof NotFound) return null
      throw error
    }
  }

  async remove(key: string): Promise<void> {
    await this.#client.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key: key }))
  }
}

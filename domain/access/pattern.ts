// Permission patterns: `erp.product.read` is one permission, `erp.*` everything under erp, `*.read` every read,
// `erp.*.read` every read under erp, `*` everything.

/** Whether a pattern covers a permission. The star stands for one character or more. */
export function matches(pattern: string, permission: string): boolean {
  const star = pattern.indexOf('*')
  if (star < 0) return pattern === permission
  return (
    permission.length >= pattern.length && permission.startsWith(pattern.slice(0, star)) && permission.endsWith(pattern.slice(star + 1))
  )
}

/** Whether a pattern covers all that another pattern covers, permissions of later versions included. */
export function includes(pattern: string, other: string): boolean {
  const [star, otherStar] = [pattern.indexOf('*'), other.indexOf('*')]
  if (otherStar < 0) return matches(pattern, other)
  return (
    star >= 0 &&
    other.slice(0, otherStar).startsWith(pattern.slice(0, star)) &&
    other.slice(otherStar + 1).endsWith(pattern.slice(star + 1))
  )
}

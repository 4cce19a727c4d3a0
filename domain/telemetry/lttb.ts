// Fewer points that look the same.

export interface Point {
  /** Milliseconds since 1970. */
  at: number
  value: number
}

/**
 * Largest triangle three buckets: of each of `most - 2` equal parts the point is kept that makes the largest triangle with
 * the one kept before and the middle of the part after. The first and the last stay. What is not more than `most` comes back
 * as it is. Source: S. Steinarsson, Downsampling Time Series for Visual Representation, University of Iceland, 2013, 4.2.
 * @param points by time
 */
export function largestTriangles(points: readonly Point[], most: number): readonly Point[] {
  if (points.length <= most || most < 3) return points.length <= most ? points : [points[0]!, points.at(-1)!].slice(0, most)
  const size = (points.length - 2) / (most - 2)
  const startOf = (part: number) => Math.floor(part * size) + 1
  const kept = [points[0]!]
  for (let part = 0; part < most - 2; part++) {
    const last = kept.at(-1)!
    const next = points.slice(startOf(part + 1), part === most - 3 ? points.length : startOf(part + 2))
    const at = next.reduce((sum, point) => sum + point.at, 0) / next.length
    const value = next.reduce((sum, point) => sum + point.value, 0) / next.length
    let best = points[startOf(part)]!
    let largest = -1
    for (let i = startOf(part); i < startOf(part + 1); i++) {
      const { at: x, value: y } = points[i]!
      const area = Math.abs((last.at - at) * (y - last.value) - (last.at - x) * (value - last.value))
      if (area > largest) [largest, best] = [area, points[i]!]
    }
    kept.push(best)
  }
  kept.push(points.at(-1)!)
  return kept
}

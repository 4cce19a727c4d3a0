/** An answer that is asked for again once it is older than `ms`; parallel readers share one. */
export function sharedFor<T>(ms: number, ask: () => Promise<T>): () => Promise<T> {
  let known: { at: number; answer: Promise<T> } | undefined
  return () => {
    if (!known || Date.now() - known.at >= ms) known = { at: Date.now(), answer: ask() }
    return known.answer
  }
}

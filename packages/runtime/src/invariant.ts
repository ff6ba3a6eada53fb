/** Stops on a programmer error, with the numbers that show it. Never used for what a peer or a disk can cause. */
export function invariant(condition: boolean, message: string, numbers?: Record<string, unknown>): asserts condition {
  if (condition) return
  const detail = numbers === undefined
    ? ''
    : ` (${Object.entries(numbers).map(([name, value]) => `${name}=${String(value)}`).join(' ')})`
  throw new Error(`invariant broken: ${message}${detail}`)
}

/**
 * Which of two resourceVersions is older: negative where `a` is, 0 where they are the same, undefined where nobody can tell.
 * Decimal ones are ordered within one kind of one cluster; any other may only be compared for equality.
 */
export function compareResourceVersions(a: string, b: string): number | undefined {
  if (a === b) return 0
  if (!isDecimal(a) || !isDecimal(b)) return undefined
  const [left, right] = [BigInt(a), BigInt(b)]
  return left < right ? -1 : left > right ? 1 : 0
}

const isDecimal = (version: string): boolean => /^\d{1,40}$/.test(version)

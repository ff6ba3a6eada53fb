import type { Json, JsonObject } from '../../packages/kube-api/src/object.ts'

/**
 * What may differ between two servers that do the same: identifiers, resourceVersions and times. What stood for one of them
 * at one server stands for the same one at the other, for as long as a recording lasts.
 */
export class Correspondence {
  readonly #ours = new Map<string, string>()
  readonly #recorded = new Map<string, string>()
  /** What the request in hand asked a name to begin with; the rest of it is random. */
  generateName: string | undefined

  /** False where one of the two already stands for another one. */
  agree(recorded: string, ours: string): boolean {
    const [known, knownBack] = [this.#ours.get(recorded), this.#recorded.get(ours)]
    if (known !== undefined || knownBack !== undefined) return known === ours && knownBack === recorded
    this.#ours.set(recorded, ours)
    this.#recorded.set(ours, recorded)
    return true
  }

  of(recorded: string): string | undefined { return this.#ours.get(recorded) }
}

const uuid = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const time = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$/
const age = /^(\d+[smhdy])+$/
const placeholders = new Set(['<text>', '<certificate>', '<trimmed>', '<upstream>'])

const isObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value)

const shown = (value: unknown): string => {
  const text = value === undefined ? 'nothing' : JSON.stringify(value)
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}

/** Where two answers differ, each as `path: recorded …, ours …`. The wording of messages is not compared. */
export function differences(
  recorded: Json | undefined, ours: Json | undefined, known: Correspondence, path = ''
): string[] {
  if (Array.isArray(recorded) && Array.isArray(ours)) {
    if (path.endsWith('.causes')) return differentCauses(recorded, ours, path)
    const length = recorded.length === ours.length ? []
      : [`${path}: recorded ${recorded.length} elements, ours ${ours.length}`]
    const common = Math.min(recorded.length, ours.length)
    return [...length, ...recorded.slice(0, common).flatMap((value, i) => differences(value, ours[i], known, `${path}[${i}]`))]
  }
  if (isObject(recorded) && isObject(ours)) return differentMembers(recorded, ours, known, path)
  return isSame(recorded, ours, known) ? [] : [`${path}: recorded ${shown(recorded)}, ours ${shown(ours)}`]
}

function differentMembers(recorded: JsonObject, ours: JsonObject, known: Correspondence, path: string): string[] {
  const isStatus = recorded['kind'] === 'Status' && ours['kind'] === 'Status'
  const found: string[] = []
  for (const name of new Set([...Object.keys(recorded), ...Object.keys(ours)])) {
    const [one, other] = [recorded[name], ours[name]]
    const at = path === '' ? name : `${path}.${name}`
    if (name === 'managedFields' || (isStatus && name === 'message')) continue
    if (name === 'resourceVersion' && typeof one === 'string' && typeof other === 'string') {
      if (!isSameVersion(recorded, ours, known)) found.push(`${at}: stands for another state than before`)
    } else if (name === 'continue' && typeof one === 'string' && typeof other === 'string') {
      if ((one === '') !== (other === '')) found.push(`${at}: recorded ${shown(one)}, ours ${shown(other)}`)
    } else if (name === 'name' && isGenerated(recorded, known) && typeof other === 'string') {
      if (!isSame((one as string).slice(0, -5), other.slice(0, -5), known)) found.push(`${at}: recorded ${shown(one)}, ours ${shown(other)}`)
    } else {
      found.push(...differences(one, other, known, at))
    }
  }
  return found
}

function isGenerated({ generateName: own, name }: JsonObject, known: Correspondence): boolean {
  const generateName = known.generateName ?? own
  return typeof generateName === 'string' && typeof name === 'string' && name.startsWith(generateName.slice(0, 58))
}

/** Of an object (it has a uid) the same version is the same everywhere; a list's is only a number. */
function isSameVersion(recorded: JsonObject, ours: JsonObject, known: Correspondence): boolean {
  const [version, other] = [recorded['resourceVersion'] as string, ours['resourceVersion'] as string]
  if (typeof recorded['uid'] !== 'string' || typeof ours['uid'] !== 'string') return /^\d+$/.test(other) || version === other
  return known.agree(`${recorded['uid']}@${version}`, `${ours['uid']}@${other}`)
}

function differentCauses(recorded: readonly Json[], ours: readonly Json[], path: string): string[] {
  const list = (causes: readonly Json[]): string[] => causes.map(cause =>
    isObject(cause) ? `${cause['reason'] as string} ${cause['field'] as string | undefined ?? ''}` : '').toSorted()
  const [wanted, got] = [list(recorded), list(ours)]
  return wanted.join() === got.join() ? [] : [`${path}: recorded ${wanted.join(', ')}; ours ${got.join(', ')}`]
}

function isSame(recorded: Json | undefined, ours: Json | undefined, known: Correspondence): boolean {
  if (recorded === ours) return true
  if (typeof recorded !== 'string' || typeof ours !== 'string') return false
  if (placeholders.has(recorded)) return ours !== ''
  if (uuid.test(recorded) && uuid.test(ours)) return known.agree(recorded, ours)
  return (time.test(recorded) && time.test(ours)) || (age.test(recorded) && age.test(ours))
}

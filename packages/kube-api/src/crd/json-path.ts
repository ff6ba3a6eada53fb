import type { Json, KubeObject } from '../object.ts'
import { isJsonObject } from './structural-schema.ts'

type Step =
  | { readonly kind: 'member', readonly name: string }
  | { readonly kind: 'index', readonly index: number }
  | { readonly kind: 'every' }
  /** Elements whose member has, or has not, this value. */
  | { readonly kind: 'filter', readonly members: readonly string[], readonly operator: string, readonly value: Json | undefined }

/** Why a text is no path. */
export class JsonPathError extends Error {}

const lengthMax = 1024

/**
 * A path in the subset of Kubernetes' JSONPath that definitions use: `.spec.model`, `.metadata.labels['a.b']`,
 * `.status.addresses[0].ip`, `.status.conditions[?(@.type=="Ready")].status`, `.spec.names[*]`.
 */
export class JsonPath {
  readonly #steps: readonly Step[]

  /** Throws JsonPathError. */
  constructor(text: string) { this.#steps = parse(text) }

  /** Names of the members that lead there; undefined where the path is not made of members alone. */
  get members(): readonly string[] | undefined {
    const names = this.#steps.map(step => step.kind === 'member' ? step.name : undefined)
    return names.includes(undefined) ? undefined : names as string[]
  }

  find(object: KubeObject): Json[] {
    let found: Json[] = [object as unknown as Json]
    for (const step of this.#steps) found = found.flatMap(value => follow(value, step))
    return found
  }
}

function follow(value: Json, step: Step): readonly Json[] {
  switch (step.kind) {
    case 'member': return isJsonObject(value) && Object.hasOwn(value, step.name) ? [value[step.name]!] : []
    case 'index': {
      const found = Array.isArray(value) ? value.at(step.index) : undefined
      return found === undefined ? [] : [found]
    }
    case 'every': return Array.isArray(value) ? value : isJsonObject(value) ? Object.values(value) : []
    case 'filter': return Array.isArray(value) ? value.filter(element => passes(element, step)) : []
  }
}

function passes(element: Json, { members, operator, value }: Extract<Step, { kind: 'filter' }>): boolean {
  let found: Json | undefined = element
  for (const name of members) found = isJsonObject(found) && Object.hasOwn(found, name) ? found[name] : undefined
  if (found === undefined || value === undefined) return found !== undefined && value === undefined
  switch (operator) {
    case '==': return found === value
    case '!=': return found !== value
    default: break
  }
  if (typeof found !== typeof value || (typeof found !== 'number' && typeof found !== 'string')) return false
  const [left, right] = [found, value as typeof found]
  switch (operator) {
    case '<': return left < right
    case '<=': return left <= right
    case '>': return left > right
    default: return left >= right
  }
}

/** `[?(@.type=="Ready")]` */
const filterSyntax =
  /\[\?\(\s*@((?:\.(?:[A-Za-z0-9_-]|\\.)+)+)\s*(?:(==|!=|<=|>=|<|>)\s*("[^"]*"|'[^']*'|-?[0-9.]+|true|false)\s*)?\)\]/y

function parse(text: string): Step[] {
  if (text.length > lengthMax) throw new JsonPathError(`is longer than ${lengthMax} characters`)
  const steps: Step[] = []
  let at = 0
  const take = (expression: RegExp): RegExpExecArray | null => {
    expression.lastIndex = at
    const match = expression.exec(text)
    if (match !== null) at += match[0].length
    return match
  }
  while (at < text.length) {
    const name = take(/\.((?:[A-Za-z0-9_-]|\\.)+)/y) ?? take(/\['((?:[^'\\]|\\.)+)'\]/y) ?? take(/\["((?:[^"\\]|\\.)+)"\]/y)
    if (name !== null) {
      steps.push({ kind: 'member', name: name[1]!.replaceAll(/\\(.)/g, '$1') })
      continue
    }
    if (take(/\[\*\]|\.\*/y) !== null) {
      steps.push({ kind: 'every' })
      continue
    }
    const index = take(/\[(-?\d{1,9})\]/y)
    if (index !== null) {
      steps.push({ kind: 'index', index: Number(index[1]) })
      continue
    }
    const filter = take(filterSyntax)
    if (filter === null) throw new JsonPathError(`cannot be read at ${JSON.stringify(text.slice(at, at + 32))}`)
    steps.push({
      kind: 'filter',
      members: [...filter[1]!.matchAll(/\.((?:[A-Za-z0-9_-]|\\.)+)/g)].map(([, member]) => member!.replaceAll(/\\(.)/g, '$1')),
      operator: filter[2] ?? '',
      value: filter[3] === undefined ? undefined : literal(filter[3])
    })
  }
  return steps
}

function literal(text: string): Json {
  if (text === 'true' || text === 'false') return text === 'true'
  if (!/^["']/.test(text)) return Number(text)
  return text.slice(1, -1)
}

import { kubeApiLimits } from './limits.ts'
import type { KubeObject } from './object.ts'
import type { StoredObject } from './object-store-types.ts'
import { StatusError } from './status-error.ts'
import { invalidValue, quote } from './validation/causes.ts'
import { labelValueErrors, qualifiedNameErrors } from './validation/names.ts'

export type LabelOperator = '=' | '==' | '!=' | 'in' | 'notin' | 'exists' | '!' | 'gt' | 'lt'

/** One part of a labelSelector; all of them have to hold. */
export interface LabelRequirement {
  readonly key: string
  readonly operator: LabelOperator
  /** One for `=`, `==`, `!=`, `gt` and `lt`; at least one for `in` and `notin`; otherwise none. */
  readonly values: readonly string[]
}

export type LabelSelector = readonly LabelRequirement[]

/** One part of a fieldSelector: the field's text is, or is not, the value. */
export interface FieldRequirement {
  readonly field: string
  readonly operator: '=' | '!='
  readonly value: string
}

export type FieldSelector = readonly FieldRequirement[]

/** Whether labels satisfy all requirements; an empty selector chooses everything. */
export function matchesLabels(selector: LabelSelector, labels: Readonly<Record<string, string>> = {}): boolean {
  return selector.every(requirement => satisfies(requirement, Object.hasOwn(labels, requirement.key) ? labels[requirement.key] : undefined))
}

function satisfies({ operator, values }: LabelRequirement, value: string | undefined): boolean {
  switch (operator) {
    case '=': case '==': case 'in': return value !== undefined && values.includes(value)
    case '!=': case 'notin': return value === undefined || !values.includes(value)
    case 'exists': return value !== undefined
    case '!': return value === undefined
    case 'gt': case 'lt': {
      const number = parseInt64(value ?? '')
      const bound = parseInt64(values[0]!)
      if (number === undefined || bound === undefined) return false
      return operator === 'gt' ? number > bound : number < bound
    }
  }
}

/** Whether fields satisfy all requirements; a field that is not there has the empty text. */
export function matchesFields(selector: FieldSelector, fieldOf: (field: string) => string): boolean {
  return selector.every(({ field, operator, value }) => (fieldOf(field) === value) === (operator === '='))
}

/**
 * Both selectors as a predicate for `Selection`; undefined where they choose everything. `fieldsOf` gives the fields besides
 * metadata.name and metadata.namespace.
 */
export function selectorMatch(
  labels: LabelSelector, fields: FieldSelector, fieldsOf: (object: KubeObject) => Readonly<Record<string, string>>
): ((stored: StoredObject) => boolean) | undefined {
  if (labels.length === 0 && fields.length === 0) return undefined
  const ownFields = fields.some(({ field }) => field !== nameField && field !== namespaceField)
  return ({ namespace, name, object }) => {
    if (!matchesLabels(labels, object.metadata.labels)) return false
    if (fields.length === 0) return true
    const own = ownFields ? fieldsOf(object) : {}
    return matchesFields(fields, field => {
      if (field === nameField) return name
      if (field === namespaceField) return namespace
      return Object.hasOwn(own, field) ? own[field]! : ''
    })
  }
}

const nameField = 'metadata.name'
const namespaceField = 'metadata.namespace'

// ── labels (k8s.io/apimachinery/pkg/labels/selector.go) ──────────────────────────────────────────────────────────────

type TokenKind = 'end' | 'identifier' | 'in' | 'notin' | ')' | ',' | '!' | '==' | '=' | '>' | '<' | '!=' | '(' | 'error'
interface Token { readonly kind: TokenKind, readonly text: string }

const symbols: ReadonlySet<string> = new Set([')', ',', '!', '==', '=', '>', '<', '!=', '('])
const isSymbol = (char: string): boolean => char !== '' && '=!(),><'.includes(char)
const isSpace = (char: string): boolean => char === ' ' || char === '\t' || char === '\r' || char === '\n'

function tokensOf(text: string): Token[] {
  const tokens: Token[] = []
  let at = 0
  for (;;) {
    while (at < text.length && isSpace(text.charAt(at))) at++
    if (at === text.length) break
    const start = at
    if (isSymbol(text.charAt(at))) {
      // The longest that means something; `>=` is `>` and `=`.
      while (isSymbol(text.charAt(at)) && (at === start || symbols.has(text.slice(start, at + 1)))) at++
      tokens.push({ kind: text.slice(start, at) as TokenKind, text: text.slice(start, at) })
      continue
    }
    while (at < text.length && !isSymbol(text.charAt(at)) && !isSpace(text.charAt(at))) at++
    const word = text.slice(start, at)
    tokens.push({ kind: word === 'in' || word === 'notin' ? word : 'identifier', text: word })
  }
  tokens.push({ kind: 'end', text: '' })
  return tokens
}

const inRequirement = (what: string): StatusError => badRequest(`unable to parse requirement: ${what}`)
const badRequest = (message: string): StatusError => new StatusError(400, 'BadRequest', message)

function refuseTooLong(name: string, text: string): void {
  const lengthMax = kubeApiLimits.selectorLength.value
  if (text.length > lengthMax) throw badRequest(`${name} has ${text.length} characters, the limit is ${lengthMax}`)
}

/** Throws StatusError 400 in the words of the real server. */
export function parseLabelSelector(text: string): LabelSelector {
  refuseTooLong('labelSelector', text)
  return new LabelParser(tokensOf(text)).parse()
}

/** By hand, as the original is: its refusals name what it found where it stood. */
class LabelParser {
  readonly #tokens: readonly Token[]
  #at = 0

  constructor(tokens: readonly Token[]) { this.#tokens = tokens }

  parse(): LabelSelector {
    const requirements: LabelRequirement[] = []
    for (;;) {
      const { kind, text } = this.#peek()
      if (kind === 'end') return requirements
      if (kind !== 'identifier' && kind !== '!') throw badRequest(`found '${text}', expected: !, identifier, or 'end of string'`)
      requirements.push(this.#requirement())
      const after = this.#next()
      if (after.kind === 'end') return requirements
      if (after.kind !== ',') throw badRequest(`found '${after.text}', expected: ',' or 'end of string'`)
      const begin = this.#peek()
      if (begin.kind !== 'identifier' && begin.kind !== '!') {
        throw badRequest(`found '${begin.text}', expected: identifier after ','`)
      }
    }
  }

  /** `in` and `notin` are words where no operator can stand. */
  #peek(): Token {
    const token = this.#tokens[Math.min(this.#at, this.#tokens.length - 1)]!
    return token.kind === 'in' || token.kind === 'notin' ? { kind: 'identifier', text: token.text } : token
  }

  #next(): Token {
    const token = this.#peek()
    this.#at++
    return token
  }

  #requirement(): LabelRequirement {
    let token = this.#next()
    const negated = token.kind === '!'
    if (negated) token = this.#next()
    if (token.kind !== 'identifier') throw inRequirement(`found '${token.text}', expected: identifier`)
    const key = token.text
    const [keyError] = keyErrors(key, '<nil>')
    if (keyError !== undefined) throw inRequirement(keyError)
    const after = this.#peek().kind
    if (negated) return { key, operator: '!', values: [] }
    if (after === 'end' || after === ',') return { key, operator: 'exists', values: [] }
    const operator = this.#operator()
    const values = operator === 'in' || operator === 'notin' ? this.#values() : [this.#exactValue()]
    const errors = valueErrors(key, operator, values)
    if (errors.length > 0) throw inRequirement(errors.length === 1 ? errors[0]! : `[${errors.join(', ')}]`)
    return { key, operator, values }
  }

  #operator(): LabelOperator {
    const { kind, text } = this.#tokens[Math.min(this.#at++, this.#tokens.length - 1)]!
    switch (kind) {
      case 'in': case 'notin': case '=': case '==': case '!=': return kind
      case '>': return 'gt'
      case '<': return 'lt'
      default: throw inRequirement(`found '${text}', expected: in, notin, =, ==, !=, gt, lt`)
    }
  }

  /** `(a,b)`; an empty place is the empty text. */
  #values(): string[] {
    const open = this.#next()
    if (open.kind !== '(') throw inRequirement(`found '${open.text}' expected: '('`)
    const first = this.#peek()
    if (first.kind === ')') {
      this.#next()
      return ['']
    }
    if (first.kind !== 'identifier' && first.kind !== ',') {
      throw inRequirement(`found '${first.text}', expected: ',', ')' or identifier`)
    }
    const values = new Set<string>()
    for (;;) {
      const { kind, text } = this.#next()
      if (kind === 'identifier') {
        values.add(text)
        const after = this.#peek()
        if (after.kind === ')') break
        if (after.kind !== ',') throw inRequirement(`found '${after.text}', expected: ',' or ')'`)
      } else if (kind === ',') {
        if (values.size === 0) values.add('')
        const after = this.#peek()
        if (after.kind === ')' || after.kind === ',') values.add('')
        if (after.kind === ')') break
        if (after.kind === ',') this.#next()
      } else throw inRequirement(`found '${text}', expected: ',', or identifier`)
    }
    this.#next()
    return [...values].toSorted()
  }

  #exactValue(): string {
    const { kind } = this.#peek()
    if (kind === 'end' || kind === ',') return ''
    const { text } = this.#next()
    if (kind !== 'identifier') throw inRequirement(`found '${text}', expected: identifier`)
    return text
  }
}

/** As the error list of the original prints: path and message of the field. */
function keyErrors(key: string, path: string): string[] {
  const errors = qualifiedNameErrors(key)
  return errors.length === 0 ? [] : [`${path}: ${invalidValue('', key, errors.join('; ')).message}`]
}

function valueErrors(key: string, operator: LabelOperator, values: readonly string[]): string[] {
  const found: string[] = []
  if (operator === 'gt' || operator === 'lt') {
    for (const [i, value] of values.entries()) {
      if (parseInt64(value) !== undefined) continue
      found.push(`values[${i}]: ${invalidValue('', value, 'for \'Gt\', \'Lt\' operators, the value must be an integer').message}`)
    }
  }
  for (const [i, value] of values.entries()) {
    const errors = labelValueErrors(value)
    if (errors.length > 0) found.push(`values[${i}][${key}]: ${invalidValue('', value, errors.join('; ')).message}`)
  }
  return found
}

function parseInt64(text: string): bigint | undefined {
  if (!/^[+-]?[0-9]{1,63}$/.test(text)) return undefined
  const number = BigInt(text.replace(/^\+/, ''))
  return number >= -(2n ** 63n) && number < 2n ** 63n ? number : undefined
}

// ── fields (k8s.io/apimachinery/pkg/fields/selector.go) ──────────────────────────────────────────────────────────────

/**
 * Throws StatusError 400 in the words of the real server. `fieldNames`: what a selector may name besides metadata.name and
 * metadata.namespace (`selectableFieldNames`).
 */
export function parseFieldSelector(text: string, fieldNames: readonly string[]): FieldSelector {
  refuseTooLong('fieldSelector', text)
  const requirements: FieldRequirement[] = []
  for (const term of termsOf(text).toSorted()) {
    if (term === '') continue
    const match = /^(.*?)(!=|==|=)(.*)$/s.exec(term)
    if (match === null) throw badRequest(`invalid selector: '${text}'; can't understand '${term}'`)
    const [, field = '', operator, value = ''] = match
    requirements.push({ field, operator: operator === '!=' ? '!=' : '=', value: unescaped(value) })
  }
  const known = [nameField, namespaceField, ...fieldNames]
  const unknown = requirements.find(({ field }) => !known.includes(field))?.field
  if (unknown === undefined) return requirements
  throw badRequest(fieldNames.length === 0
    ? `${quote(unknown)} is not a known field selector: only "${nameField}", "${namespaceField}"`
    : `field label not supported: ${unknown}`)
}

/** Split at commas that no backslash stands before. */
function termsOf(text: string): string[] {
  const terms: string[] = []
  let start = 0
  for (let i = 0; i < text.length; i++) {
    if (text[i] === '\\') i++
    else if (text[i] === ',') {
      terms.push(text.slice(start, i))
      start = i + 1
    }
  }
  terms.push(text.slice(start))
  return terms
}

function unescaped(value: string): string {
  let result = ''
  let escaping = false
  for (const char of value) {
    if (escaping && !'\\,='.includes(char)) throw badEscape(char)
    if (!escaping && (char === '=' || char === ',')) {
      throw badRequest(`invalid field selector: unescaped character in value: ${char.charCodeAt(0)}`)
    }
    escaping = !escaping && char === '\\'
    if (!escaping) result += char
  }
  if (escaping) throw badEscape('')
  return result
}

const badEscape = (char: string): StatusError => badRequest(`invalid field selector: invalid escape sequence: \\${char}`)

/** The fields that a resource lets a selector name: those that it tells of an object with nothing in it. */
export function selectableFieldNames(resource: {
  readonly group: string, readonly version: string, readonly kind: string
  selectableFields(object: KubeObject): Readonly<Record<string, string>>
}): string[] {
  const apiVersion = resource.group === '' ? resource.version : `${resource.group}/${resource.version}`
  return Object.keys(resource.selectableFields({ apiVersion, kind: resource.kind, metadata: {} }))
}

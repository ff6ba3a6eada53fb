import { crdLimits } from './limits.ts'

/** Why a text is no pattern. */
export class PatternError extends Error {}

/** What work may still be done; shared by everything that checks one object. */
export interface Budget { left: number }

/** Set where the budget is used up. */
export class BudgetError extends Error {}

export function spend(budget: Budget, steps: number): void {
  budget.left -= steps
  if (budget.left < 0) throw new BudgetError('the schema makes too much work of this object')
}

type CharacterTest = (codePoint: number) => boolean
type Assertion = 'text-start' | 'text-end' | 'line-start' | 'line-end' | 'word-boundary' | 'no-word-boundary'

/** `parts`: of its class, each of which the test may have to look at. */
interface CharacterInstruction { readonly kind: 'character', readonly test: CharacterTest, readonly parts?: number }

type Node =
  | { readonly kind: 'empty' }
  | CharacterInstruction
  | { readonly kind: 'assertion', readonly assertion: Assertion }
  | { readonly kind: 'sequence', readonly nodes: readonly Node[] }
  | { readonly kind: 'choice', readonly nodes: readonly Node[] }
  | { readonly kind: 'repeat', readonly node: Node, readonly min: number, readonly max: number }

type Instruction =
  | CharacterInstruction
  | { readonly kind: 'assertion', readonly assertion: Assertion }
  | { readonly kind: 'split', readonly targets: number[] }
  | { readonly kind: 'match' }

interface Flags { readonly ignoreCase: boolean, readonly multiLine: boolean, readonly dotAll: boolean }

/** As RE2 bounds a counted repetition. */
const repetitionMax = 1000
const nestingMax = 200
const lastCodePoint = 0x10ffff

const isWord: CharacterTest = c => (c >= 48 && c <= 57) || (c >= 65 && c <= 90) || c === 95 || (c >= 97 && c <= 122)
const isDigit: CharacterTest = c => c >= 48 && c <= 57
const isSpace: CharacterTest = c => c === 32 || c === 9 || c === 10 || c === 12 || c === 13
const not = (test: CharacterTest): CharacterTest => c => !test(c)
const within = (ranges: readonly (readonly [number, number])[]): CharacterTest => c => ranges.some(([from, to]) => c >= from && c <= to)

const posixClasses: Readonly<Record<string, readonly (readonly [number, number])[]>> = {
  alnum: [[48, 57], [65, 90], [97, 122]], alpha: [[65, 90], [97, 122]], ascii: [[0, 127]], blank: [[9, 9], [32, 32]],
  cntrl: [[0, 31], [127, 127]], digit: [[48, 57]], graph: [[33, 126]], lower: [[97, 122]], print: [[32, 126]],
  punct: [[33, 47], [58, 64], [91, 96], [123, 126]], space: [[9, 13], [32, 32]], upper: [[65, 90]],
  word: [[48, 57], [65, 90], [95, 95], [97, 122]], xdigit: [[48, 57], [65, 70], [97, 102]]
}

const escapedControls: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11 }

/** Whether a character is in a class, in whatever case. */
const ignoringCase = (test: CharacterTest): CharacterTest => c => {
  if (test(c)) return true
  const text = String.fromCodePoint(c)
  return [text.toLowerCase(), text.toUpperCase()].some(other => {
    const code = other.codePointAt(0)!
    return code !== c && String.fromCodePoint(code) === other && test(code)
  })
}

/** Reads the syntax of RE2 (github.com/google/re2/wiki/Syntax), which has no backreferences and does not look around. */
class PatternParser {
  readonly #characters: readonly string[]
  #at = 0
  #depth = 0

  constructor(text: string) { this.#characters = Array.from(text) }

  parse(): Node {
    const node = this.#choice({ ignoreCase: false, multiLine: false, dotAll: false })
    if (this.#at < this.#characters.length) throw new PatternError('unexpected )')
    return node
  }

  #peek(ahead = 0): string | undefined { return this.#characters[this.#at + ahead] }

  #takes(text: string): boolean {
    const characters = Array.from(text)
    if (!characters.every((character, i) => this.#peek(i) === character)) return false
    this.#at += characters.length
    return true
  }

  #choice(flags: Flags): Node {
    if (++this.#depth > nestingMax) throw new PatternError('expression nests too deeply')
    const current = { flags }
    const nodes = [this.#sequence(current)]
    while (this.#takes('|')) nodes.push(this.#sequence(current))
    this.#depth--
    return nodes.length === 1 ? nodes[0]! : { kind: 'choice', nodes }
  }

  /** Flags that are set inside a group hold up to its end. */
  #sequence(current: { flags: Flags }): Node {
    const nodes: Node[] = []
    for (;;) {
      const next = this.#peek()
      if (next === undefined || next === '|' || next === ')') break
      if (this.#takes('\\Q')) {
        while (this.#peek() !== undefined && !this.#takes('\\E')) nodes.push(this.#literal(this.#characters[this.#at++]!, current.flags))
        continue
      }
      const atom = this.#atom(current)
      nodes.push(atom === undefined ? { kind: 'empty' } : this.#repeated(atom))
    }
    return nodes.length === 1 ? nodes[0]! : { kind: 'sequence', nodes }
  }

  #repeated(atom: Node): Node {
    let node = atom
    for (let times = 0; ; times++) {
      const bounds = this.#quantifier()
      if (bounds === undefined) return node
      if (times > 0) throw new PatternError('invalid nested repetition operator')
      node = { kind: 'repeat', node, min: bounds[0], max: bounds[1] }
      // Which of several matches is found makes no difference here.
      this.#takes('?')
    }
  }

  #quantifier(): readonly [number, number] | undefined {
    if (this.#takes('*')) return [0, Infinity]
    if (this.#takes('+')) return [1, Infinity]
    if (this.#takes('?')) return [0, 1]
    const match = /^\{(\d{1,4})(,(\d{0,4}))?\}/.exec(this.#characters.slice(this.#at, this.#at + 12).join(''))
    if (match === null) return undefined
    const min = Number(match[1])
    const max = match[2] === undefined ? min : match[3] === '' ? Infinity : Number(match[3])
    if (min > repetitionMax || (max !== Infinity && max > repetitionMax) || max < min) {
      throw new PatternError(`invalid repeat count: \`${match[0]}\``)
    }
    this.#at += match[0].length
    return [min, max]
  }

  #literal(character: string, { ignoreCase }: Flags): Node {
    const wanted = character.codePointAt(0)!
    const test: CharacterTest = c => c === wanted
    return { kind: 'character', test: ignoreCase ? ignoringCase(test) : test }
  }

  /** Undefined for what only sets flags. */
  #atom(current: { flags: Flags }): Node | undefined {
    const { flags } = current
    const character = this.#characters[this.#at++]!
    switch (character) {
      case '(': return this.#group(current)
      case '[': {
        const { test, parts } = this.#class()
        return { kind: 'character', test: flags.ignoreCase ? ignoringCase(test) : test, parts }
      }
      case '.': return { kind: 'character', test: flags.dotAll ? () => true : c => c !== 10 }
      case '^': return { kind: 'assertion', assertion: flags.multiLine ? 'line-start' : 'text-start' }
      case '$': return { kind: 'assertion', assertion: flags.multiLine ? 'line-end' : 'text-end' }
      case '*':
      case '+':
      case '?': throw new PatternError(`missing argument to repetition operator: \`${character}\``)
      case '\\': return this.#escaped(flags)
      default: return this.#literal(character, flags)
    }
  }

  #group(current: { flags: Flags }): Node | undefined {
    let { flags } = current
    if (this.#takes('?')) {
      if (/^P?<[A-Za-z_]/.test(this.#characters.slice(this.#at, this.#at + 3).join(''))) {
        while (this.#peek() !== undefined && this.#peek() !== '>') this.#at++
        if (!this.#takes('>')) throw new PatternError('invalid named capture')
      } else {
        flags = this.#flags(flags)
        if (this.#takes(')')) {
          current.flags = flags
          return undefined
        }
        if (!this.#takes(':')) throw new PatternError(`invalid or unsupported Perl syntax: \`(?${this.#peek() ?? ''}\``)
      }
    }
    const node = this.#choice(flags)
    if (!this.#takes(')')) throw new PatternError('missing closing )')
    return node
  }

  #flags(given: Flags): Flags {
    const flags = { ...given }
    let value = true
    for (;;) {
      if (this.#takes('i')) flags.ignoreCase = value
      else if (this.#takes('m')) flags.multiLine = value
      else if (this.#takes('s')) flags.dotAll = value
      else if (this.#takes('U')) continue
      else if (value && this.#takes('-')) value = false
      else return flags
    }
  }

  #escaped(flags: Flags): Node {
    const next = this.#peek()
    const assertions: Readonly<Record<string, Assertion>> =
      { A: 'text-start', z: 'text-end', b: 'word-boundary', B: 'no-word-boundary' }
    if (next !== undefined && Object.hasOwn(assertions, next)) {
      this.#at++
      return { kind: 'assertion', assertion: assertions[next]! }
    }
    const test = this.#escapedClass()
    if (test !== undefined) return { kind: 'character', test: flags.ignoreCase ? ignoringCase(test) : test }
    return this.#literal(String.fromCodePoint(this.#escapedCharacter()), flags)
  }

  /** Behind a backslash: a class, or undefined where there is none. */
  #escapedClass(): CharacterTest | undefined {
    const simple: Readonly<Record<string, CharacterTest>> = {
      d: isDigit, D: not(isDigit), s: isSpace, S: not(isSpace), w: isWord, W: not(isWord)
    }
    const next = this.#peek()
    if (next === undefined) throw new PatternError('trailing backslash at end of expression')
    if (Object.hasOwn(simple, next)) {
      this.#at++
      return simple[next]
    }
    if (next !== 'p' && next !== 'P') return undefined
    this.#at++
    let name = this.#peek() ?? ''
    this.#at++
    if (name === '{') {
      const end = this.#characters.indexOf('}', this.#at)
      if (end === -1) throw new PatternError('invalid character class range')
      name = this.#characters.slice(this.#at, end).join('')
      this.#at = end + 1
    }
    return unicodeClass(name.replace(/^\^/, ''), (next === 'P') !== name.startsWith('^'))
  }

  #escapedCharacter(): number {
    const character = this.#characters[this.#at++]
    if (character === undefined) throw new PatternError('trailing backslash at end of expression')
    if (Object.hasOwn(escapedControls, character)) return escapedControls[character]!
    if (character === 'x') {
      const match = /^(?:\{([0-9A-Fa-f]{1,6})\}|([0-9A-Fa-f]{2}))/.exec(this.#characters.slice(this.#at, this.#at + 8).join(''))
      const code = match === null ? Infinity : Number.parseInt(match[1] ?? match[2]!, 16)
      if (code > lastCodePoint) throw new PatternError('invalid escape sequence: `\\x`')
      this.#at += match![0].length
      return code
    }
    if (/^[0-7]$/.test(character)) {
      const match = /^[0-7]{0,2}/.exec(this.#characters.slice(this.#at, this.#at + 2).join(''))!
      if (character !== '0' && match[0] === '') throw new PatternError(`invalid escape sequence: \`\\${character}\``)
      this.#at += match[0].length
      return Number.parseInt(character + match[0], 8)
    }
    if (/^[A-Za-z0-9]$/.test(character)) throw new PatternError(`invalid escape sequence: \`\\${character}\``)
    return character.codePointAt(0)!
  }

  #class(): { readonly test: CharacterTest, readonly parts: number } {
    const isNegated = this.#takes('^')
    const tests: CharacterTest[] = []
    const ranges: [number, number][] = []
    for (let isFirst = true; ; isFirst = false) {
      if (this.#peek() === undefined) throw new PatternError('missing closing ]')
      if (!isFirst && this.#takes(']')) break
      const posix = /^\[:(\^?)([a-z]+):\]/.exec(this.#characters.slice(this.#at, this.#at + 12).join(''))
      if (posix !== null) {
        if (!Object.hasOwn(posixClasses, posix[2]!)) throw new PatternError(`invalid character class range: \`${posix[0]}\``)
        const test = within(posixClasses[posix[2]!]!)
        tests.push(posix[1] === '' ? test : not(test))
        this.#at += posix[0].length
        continue
      }
      const isEscaped = this.#takes('\\')
      const test = isEscaped ? this.#escapedClass() : undefined
      if (test !== undefined) {
        tests.push(test)
        continue
      }
      const from = isEscaped ? this.#escapedCharacter() : this.#characters[this.#at++]!.codePointAt(0)!
      const isRange = this.#peek() === '-' && this.#peek(1) !== undefined && this.#peek(1) !== ']'
      if (isRange) this.#at++
      const to = isRange ? this.#rangeEnd() : from
      if (to < from) throw new PatternError('invalid character class range')
      ranges.push([from, to])
    }
    const parts = tests.length + ranges.length
    if (ranges.length > 0) tests.push(within(ranges))
    const test: CharacterTest = tests.length === 1 ? tests[0]! : c => tests.some(one => one(c))
    return { test: isNegated ? not(test) : test, parts }
  }

  #rangeEnd(): number {
    if (this.#takes('\\')) return this.#escapedCharacter()
    return this.#characters[this.#at++]!.codePointAt(0)!
  }
}

function unicodeClass(name: string, isNegated: boolean): CharacterTest {
  if (name === 'Any') return () => !isNegated
  let expression: RegExp | undefined
  for (const property of [name, `Script=${name}`]) {
    if (!/^[A-Za-z_=]+$/.test(property)) break
    try {
      // One character at a time: linear whatever it holds.
      expression ??= new RegExp(`^\\p{${property}}$`, 'u')
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error
    }
  }
  if (expression === undefined) throw new PatternError(`invalid character class range: \`\\p{${name}}\``)
  return c => expression.test(String.fromCodePoint(c)) !== isNegated
}

/** Writes a tree out as instructions. Throws PatternError past `patternInstructions`. */
class Assembler {
  readonly instructions: Instruction[] = []

  add(node: Node): void {
    switch (node.kind) {
      case 'empty': break
      case 'character':
      case 'assertion': this.#push(node); break
      case 'sequence': for (const inner of node.nodes) this.add(inner); break
      case 'choice': this.#choice(node.nodes); break
      case 'repeat': this.#repeat(node.node, node.min, node.max); break
    }
  }

  end(): void { this.#push({ kind: 'match' }) }

  #push(instruction: Instruction): void {
    if (this.instructions.length >= crdLimits.patternInstructions.value) throw new PatternError('expression too large')
    this.instructions.push(instruction)
  }

  #split(): number[] {
    const targets: number[] = []
    this.#push({ kind: 'split', targets })
    return targets
  }

  get #next(): number { return this.instructions.length }

  #choice(nodes: readonly Node[]): void {
    const starts = this.#split()
    const ends: number[][] = []
    for (const node of nodes) {
      starts.push(this.#next)
      this.add(node)
      ends.push(this.#split())
    }
    for (const targets of ends) targets.push(this.#next)
  }

  #repeat(node: Node, min: number, max: number): void {
    for (let i = 0; i < min; i++) {
      const start = this.#next
      this.add(node)
      // Nothing, however often, is nothing: the bound on instructions would never end it.
      if (this.#next === start) break
    }
    if (max === Infinity) {
      const start = this.#next
      const targets = this.#split()
      targets.push(this.#next)
      this.add(node)
      this.#split().push(start)
      targets.push(this.#next)
      return
    }
    const skips: number[][] = []
    for (let i = min; i < max; i++) {
      const targets = this.#split()
      targets.push(this.#next)
      skips.push(targets)
      this.add(node)
    }
    for (const targets of skips) targets.push(this.#next)
  }
}

/**
 * A regular expression in the syntax of RE2, as `pattern` of a schema has it. Patterns come from whoever may define a
 * resource, texts from whoever may write one, so matching takes a time that is linear in the text: all ways are followed at
 * once (Thompson 1968), and the budget is charged for them.
 */
export class Pattern {
  readonly source: string
  readonly #instructions: readonly Instruction[]

  /** Throws PatternError. */
  constructor(source: string) {
    this.source = source
    const assembler = new Assembler()
    assembler.add(new PatternParser(source).parse())
    assembler.end()
    this.#instructions = assembler.instructions
  }

  /** Instructions that it takes. */
  get size(): number { return this.#instructions.length }

  /** Whether the text has a match somewhere. Throws BudgetError. */
  test(text: string, budget: Budget): boolean {
    const codes = Array.from(text, character => character.codePointAt(0)!)
    const program = this.#instructions
    const seen = new Int32Array(program.length).fill(-1)
    let waiting: number[] = []
    for (let at = 0; ; at++) {
      // Those that wait at this position, and one more that begins here.
      const next: number[] = []
      const stack = [0, ...waiting.toReversed()]
      while (stack.length > 0) {
        const index = stack.pop()!
        if (seen[index] === at) continue
        seen[index] = at
        const instruction = program[index]!
        spend(budget, instruction.kind === 'character' ? instruction.parts ?? 1 : 1)
        switch (instruction.kind) {
          case 'match': return true
          case 'split': for (const target of instruction.targets) stack.push(target); break
          case 'assertion': if (holds(instruction.assertion, codes, at)) stack.push(index + 1); break
          case 'character': if (at < codes.length && instruction.test(codes[at]!)) next.push(index + 1); break
        }
      }
      if (at >= codes.length) return false
      waiting = next
    }
  }
}

function holds(assertion: Assertion, codes: readonly number[], at: number): boolean {
  switch (assertion) {
    case 'text-start': return at === 0
    case 'text-end': return at === codes.length
    case 'line-start': return at === 0 || codes[at - 1] === 10
    case 'line-end': return at === codes.length || codes[at] === 10
    case 'word-boundary': return isBoundary(codes, at)
    case 'no-word-boundary': return !isBoundary(codes, at)
  }
}

const isBoundary = (codes: readonly number[], at: number): boolean =>
  (at > 0 && isWord(codes[at - 1]!)) !== (at < codes.length && isWord(codes[at]!))

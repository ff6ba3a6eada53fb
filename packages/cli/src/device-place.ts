import type { DeviceRow, TwinView } from './twin-view.ts'

/** A desired value as it was typed; undefined takes the desired value away. */
export interface DesiredText {
  readonly property: string
  readonly text: string | undefined
}

/** Where devices are asked for: the Kubernetes API (cluster-devices.ts) or the node itself (edge-devices.ts). */
export interface DevicePlace {
  readonly kind: 'cloud' | 'edge'
  /** Of these alone, where they are given. */
  list(only: { readonly namespace?: string, readonly node?: string }, signal: AbortSignal): Promise<readonly DeviceRow[]>
  get(device: string, signal: AbortSignal): Promise<TwinView>
  /**
   * Stores desired values, all of them or none; `ifVersion` is the version of each that the writer saw, `none` for none. Resolves
   * with the twin as it is then.
   */
  set(device: string, values: readonly DesiredText[], ifVersion: string | undefined, signal: AbortSignal): Promise<TwinView>
  /** The twin, and again whenever it is another one. Ends when the device is deleted. */
  watch(device: string, signal: AbortSignal): AsyncIterable<TwinView>
}

const textTypes = ['STRING', 'BYTES', 'STREAM']

/** A type of a model whose values are text. */
export function isTextType(modelType: string | null): boolean { return modelType !== null && textTypes.includes(modelType) }

/** What was typed, as a value: text where the model's type says so, else JSON where it is JSON, else text. */
export function typedValue(text: string, modelType: string | null): unknown {
  if (isTextType(modelType)) return text
  try {
    return JSON.parse(text) as unknown
  } catch {
    return text
  }
}

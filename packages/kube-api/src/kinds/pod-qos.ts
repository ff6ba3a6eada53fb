import { quantityOrder, quantitySign } from '../quantity.ts'
import type { Container, PodSpec } from './pod-types.ts'

const counted = ['cpu', 'memory'] as const

function counting(list: Readonly<Record<string, string>> | undefined): Map<string, string> {
  return new Map(counted.flatMap(name => {
    const quantity = list?.[name]
    return quantity !== undefined && quantitySign(quantity) > 0 ? [[name, quantity] as const] : []
  }))
}

/** `Guaranteed`: each container limits both cpu and memory and asks for just that. `BestEffort`: none says anything. */
export function qosClassOf({ containers = [], initContainers = [] }: PodSpec): string {
  const all = [...containers, ...initContainers]
  const says = ({ resources }: Container): boolean => counting(resources?.limits).size + counting(resources?.requests).size > 0
  if (!all.some(says)) return 'BestEffort'
  const isGuaranteed = ({ resources }: Container): boolean => {
    const [limits, requests] = [counting(resources?.limits), counting(resources?.requests)]
    return counted.every(name => limits.has(name) && requests.has(name) && quantityOrder(limits.get(name)!, requests.get(name)!) === 0)
  }
  return all.every(isGuaranteed) ? 'Guaranteed' : 'Burstable'
}

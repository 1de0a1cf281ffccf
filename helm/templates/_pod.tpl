{{/* The pod, the same in a Deployment and in a StatefulSet. */}}
{{- define "vsf-safety.pod" -}}
{{- $scheme := include "vsf-safety.scheme" . | upper -}}
metadata:
  labels:
    {{- include "vsf-safety.labels" . | nindent 4 }}
    # Never stopped by itself.
    vsf-workload: "false"
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # The configuration is read at the start alone: another one is another pod.
    checksum/config: {{ include "vsf-safety.config" . | sha256sum }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "vsf-safety.serviceAccountName" . }}
  automountServiceAccountToken: true
  # Names of other Services in the environment could be taken for settings.
  enableServiceLinks: false
  # The service ends within 5 s of SIGTERM: the Lease given back, the journal closed.
  terminationGracePeriodSeconds: 20
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- with .Values.runAs.user }}
    runAsUser: {{ . }}
    {{- end }}
    {{- with .Values.runAs.group }}
    runAsGroup: {{ . }}
    fsGroup: {{ . }}
    {{- end }}
    # Always would give the operator's token a mode of 0660 at each mount, and the service refuses such a one.
    fsGroupChangePolicy: OnRootMismatch
    seccompProfile:
      type: RuntimeDefault
  containers:
    - name: vsf-safety
      image: {{ include "vsf-safety.image" . }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args: [serve, --config, /etc/vsf-safety/safety.yaml]
      env:
        - name: POD_IP
          valueFrom:
            fieldRef:
              fieldPath: status.podIP
        # Over the file's: the pod's own address, too, which is what Prometheus writes.
        - name: VSF_SAFETY_LISTEN_HOSTS
          value: {{ append (include "vsf-safety.hosts" . | fromJsonArray) "$(POD_IP)" | join "," | quote }}
        # Where the command line finds the operator's token.
        - name: VSF_SAFETY_STATE_DIR
          value: /var/lib/vsf-safety/state
        {{- if include "vsf-safety.tlsSecret" . }}
        # For commands within the pod.
        - name: VSF_SAFETY_URL
          value: https://localhost:8470
        {{- with include "vsf-safety.tlsCaKey" . }}
        - name: VSF_SAFETY_CA_FILE
          value: {{ include "vsf-safety.tlsFolder" $ }}/{{ . }}
        {{- end }}
        {{- end }}
        {{- with .Values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - name: http
          containerPort: 8470
          protocol: TCP
      # Alive is whose evaluations come; nothing outside the process counts, so that a lost API server ends no watch.
      startupProbe:
        httpGet: { path: /healthz, port: http, scheme: {{ $scheme }} }
        periodSeconds: 2
        timeoutSeconds: 5
        failureThreshold: 30
      livenessProbe:
        httpGet: { path: /healthz, port: http, scheme: {{ $scheme }} }
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 3
      # Ready: the latch is known and the last tick was in time. Only an update waits for it: the Service does not.
      readinessProbe:
        httpGet: { path: /readyz, port: http, scheme: {{ $scheme }} }
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: 2
      resources:
        {{- toYaml .Values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        privileged: false
        readOnlyRootFilesystem: true
        capabilities:
          drop: [ALL]
      volumeMounts:
        - name: config
          mountPath: /etc/vsf-safety
          readOnly: true
        - name: state
          mountPath: /var/lib/vsf-safety
        - name: tmp
          mountPath: /tmp
        {{- if include "vsf-safety.tlsSecret" . }}
        - name: tls
          mountPath: {{ include "vsf-safety.tlsFolder" . }}
          readOnly: true
        {{- end }}
        {{- range .Values.secrets }}
        - name: secret-{{ . }}
          mountPath: /run/secrets/{{ . }}
          readOnly: true
        {{- end }}
        {{- with .Values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "vsf-safety.fullname" . }}
    {{- if not .Values.persistence.enabled }}
    # Without a limit: the service bounds what it keeps, and a pod over its limit would be evicted.
    - name: state
      emptyDir: {}
    {{- end }}
    - name: tmp
      emptyDir:
        sizeLimit: 64Mi
    {{- with include "vsf-safety.tlsSecret" . }}
    - name: tls
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- range .Values.secrets }}
    - name: secret-{{ . }}
      secret:
        secretName: {{ . }}
        defaultMode: 0440
    {{- end }}
    {{- with .Values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    {{- if .Values.affinity }}
    {{- toYaml .Values.affinity | nindent 4 }}
    {{- else }}
    # Away from the machines that it watches, where there are others: a load may starve its own node.
    nodeAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 50
          preference:
            matchExpressions:
              - key: nvidia.com/gpu.present
                operator: DoesNotExist
    {{- if gt (int .Values.replicas) 1 }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "vsf-safety.selectorLabels" . | nindent 16 }}
    {{- end }}
    {{- end }}
  {{- if gt (int .Values.replicas) 1 }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: topology.kubernetes.io/zone
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "vsf-safety.selectorLabels" . | nindent 10 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
